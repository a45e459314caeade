/** `POST /chat/completions`, as the reference and OpenAI document it. */

import type { CompletionUsage, Extensible, Metadata, ModelName, StreamOptions } from "./common.js";

export interface TextPart {
  type: "text";
  text: string;
  prompt_cache_breakpoint?: CacheBreakpoint | null;
}

export interface CacheBreakpoint {
  mode: "explicit";
  ttl?: "30m" | "12h" | null;
}

export interface RefusalPart {
  type: "refusal";
  refusal: string;
}

export interface ImagePart {
  type: "image_url";
  image_url: { url: string; detail?: "auto" | "low" | "high" | "original" | null };
  prompt_cache_breakpoint?: CacheBreakpoint | null;
}

export interface AudioPart {
  type: "input_audio";
  /** `data` is base64. */
  input_audio: { data: string; format: "wav" | "mp3" };
  prompt_cache_breakpoint?: CacheBreakpoint | null;
}

export interface FilePart {
  type: "file";
  file: { file_data?: string | null; file_id?: string | null; filename?: string | null };
  prompt_cache_breakpoint?: CacheBreakpoint | null;
}

export type ContentPart = TextPart | ImagePart | AudioPart | FilePart;

export interface SystemMessage {
  role: "system" | "developer";
  content: string | TextPart[];
  name?: string | null;
}

export interface UserMessage {
  role: "user";
  content: string | ContentPart[];
  name?: string | null;
}

export interface AssistantMessage {
  role: "assistant";
  content?: string | (TextPart | RefusalPart)[] | null;
  name?: string | null;
  refusal?: string | null;
  tool_calls?: ToolCall[] | null;
  function_call?: { name: string; arguments: string } | null;
  audio?: { id: string; [field: string]: unknown } | null;
  reasoning_content?: string | null;
}

export interface ToolMessage {
  role: "tool";
  content: string | TextPart[];
  tool_call_id: string;
  name?: string | null;
}

export interface FunctionMessage {
  role: "function";
  name: string;
  content?: string | null;
}

/** Answers' messages fit in here, so that they can be sent back as they came. */
export type Message =
  | SystemMessage
  | UserMessage
  | AssistantMessage
  | ToolMessage
  | FunctionMessage
  | ChatCompletionMessage;

export interface FunctionToolCall extends Extensible {
  id: string;
  type: "function";
  /** `arguments` is JSON, as the model wrote it. */
  function: { name: string; arguments: string };
}

export interface CustomToolCall extends Extensible {
  id: string;
  type: "custom";
  custom: { name: string; input: string };
}

export type ToolCall = FunctionToolCall | CustomToolCall;

export interface FunctionTool {
  type: "function";
  /** `parameters` is a JSON schema. */
  function: {
    name: string;
    description?: string | null;
    parameters?: Record<string, unknown> | null;
    strict?: boolean | null;
  };
}

export interface CustomTool {
  type: "custom";
  custom: {
    name: string;
    description?: string | null;
    format?:
      | { type: "text" }
      | { type: "grammar"; grammar: { definition: string; syntax: "lark" | "regex" } }
      | null;
  };
}

export type Tool = FunctionTool | CustomTool;

export type ToolChoice =
  | "none"
  | "auto"
  | "required"
  | { type: "function"; function: { name: string } }
  | { type: "custom"; custom: { name: string } }
  | { type: "allowed_tools"; allowed_tools: { mode: "auto" | "required"; tools: Record<string, unknown>[] } };

export type ResponseFormat =
  | { type: "text" }
  | { type: "json_object" }
  | {
      type: "json_schema";
      json_schema: {
        name: string;
        description?: string | null;
        schema?: Record<string, unknown> | null;
        strict?: boolean | null;
      };
    };

export interface ChatCompletionParamsBase {
  /** The model to use: one of `client.models.list()`. */
  model: ModelName;
  messages: Message[];
  /** 0 to 2; 1 if absent. */
  temperature?: number | null;
  /** Most tokens to write: 150 if absent. */
  max_tokens?: number | null;
  /** As `max_tokens`, and wins where both are given. */
  max_completion_tokens?: number | null;
  /** 0 to 1; 1 if absent. */
  top_p?: number | null;
  /** -2 to 2; 0 if absent. */
  frequency_penalty?: number | null;
  /** -2 to 2; 0 if absent. */
  presence_penalty?: number | null;
  /** Up to 4 texts before which the model stops. */
  stop?: string | string[] | null;
  /** Your end user, for your own records. */
  user?: string | null;
  /** How many answers: 1 to 16. */
  n?: number | null;
  seed?: number | null;
  stream_options?: StreamOptions | null;
  logprobs?: boolean | null;
  /** 0 to 20, with `logprobs`. */
  top_logprobs?: number | null;
  /** From a token's number to a bias of -100 to 100. */
  logit_bias?: Record<string, number> | null;
  tools?: Tool[] | null;
  tool_choice?: ToolChoice | null;
  parallel_tool_calls?: boolean | null;
  response_format?: ResponseFormat | null;
  reasoning_effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" | null;
  verbosity?: "low" | "medium" | "high" | null;
  modalities?: ("text" | "audio")[] | null;
  audio?: { format: "wav" | "aac" | "mp3" | "flac" | "opus" | "pcm16"; voice: string | { id: string } } | null;
  prediction?: { type: "content"; content: string | TextPart[] } | null;
  moderation?: {
    model: string;
    policy?: { input?: { mode: "score" | "block" } | null; output?: { mode: "score" | "block" } | null } | null;
  } | null;
  web_search_options?: {
    search_context_size?: "low" | "medium" | "high" | null;
    user_location?: {
      type: "approximate";
      approximate: {
        city?: string | null;
        country?: string | null;
        region?: string | null;
        timezone?: string | null;
      };
    } | null;
  } | null;
  service_tier?: "auto" | "default" | "flex" | "scale" | "priority" | "fast" | null;
  store?: boolean | null;
  metadata?: Metadata | null;
  safety_identifier?: string | null;
  prompt_cache_key?: string | null;
  prompt_cache_options?: { mode?: "implicit" | "explicit" | null; ttl?: "30m" | null } | null;
  prompt_cache_retention?: "in_memory" | "24h" | null;
  /** @deprecated in favour of `tools` */
  functions?: { name: string; description?: string | null; parameters?: Record<string, unknown> | null }[] | null;
  /** @deprecated in favour of `tool_choice` */
  function_call?: "none" | "auto" | { name: string } | null;
}

export interface ChatCompletionParams extends ChatCompletionParamsBase {
  stream?: false | null;
}

export interface ChatCompletionStreamingParams extends ChatCompletionParamsBase {
  stream: true;
}

export interface ChatCompletionMessage extends Extensible {
  role: "assistant";
  content: string | null;
  refusal?: string | null;
  tool_calls?: ToolCall[];
  function_call?: { name: string; arguments: string } | null;
  reasoning_content?: string | null;
}

export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter" | "function_call" | (string & {});

export interface TokenLogprob extends Extensible {
  token: string;
  logprob: number;
  bytes?: number[] | null;
  top_logprobs?: TokenLogprob[];
}

export interface ChoiceLogprobs extends Extensible {
  content?: TokenLogprob[] | null;
  refusal?: TokenLogprob[] | null;
}

export interface ChatCompletionChoice extends Extensible {
  index: number;
  message: ChatCompletionMessage;
  finish_reason: FinishReason;
  logprobs?: ChoiceLogprobs | null;
}

export interface ChatCompletion extends Extensible {
  id: string;
  object: "chat.completion";
  /** Epoch seconds. */
  created: number;
  model: string;
  choices: ChatCompletionChoice[];
  usage?: CompletionUsage;
  system_fingerprint?: string | null;
  service_tier?: string | null;
  /** Not on the wire: the id of the request, as in X-Request-ID. */
  _request_id?: string | null;
}

export interface ToolCallDelta extends Extensible {
  index: number;
  id?: string;
  type?: "function" | "custom";
  function?: { name?: string; arguments?: string };
}

export interface ChunkDelta extends Extensible {
  role?: "assistant" | (string & {});
  content?: string | null;
  refusal?: string | null;
  tool_calls?: ToolCallDelta[];
  reasoning_content?: string | null;
}

export interface ChunkChoice extends Extensible {
  index: number;
  delta: ChunkDelta;
  finish_reason: FinishReason | null;
  logprobs?: ChoiceLogprobs | null;
}

export interface ChatCompletionChunk extends Extensible {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  /** Empty on the chunk that has the usage. */
  choices: ChunkChoice[];
  usage?: CompletionUsage | null;
}
