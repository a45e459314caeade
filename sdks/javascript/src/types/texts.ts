/** `POST /completions` and `POST /embeddings`. */

import type { CompletionUsage, Extensible, ModelName, StreamOptions } from "./common.js";

/** A text or its tokens; or a list of them. */
export type TextInput = string | string[] | number[] | number[][];

export interface CompletionParamsBase {
  model: ModelName;
  prompt: TextInput;
  suffix?: string | null;
  /** Most tokens to write: 16 if absent. */
  max_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  n?: number | null;
  stream_options?: StreamOptions | null;
  /** 0 to 5. */
  logprobs?: number | null;
  echo?: boolean | null;
  stop?: string | string[] | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  best_of?: number | null;
  logit_bias?: Record<string, number> | null;
  user?: string | null;
  seed?: number | null;
}

export interface CompletionParams extends CompletionParamsBase {
  stream?: false | null;
}

export interface CompletionStreamingParams extends CompletionParamsBase {
  stream: true;
}

export interface CompletionChoice extends Extensible {
  index: number;
  text: string;
  /** null on the way of a stream. */
  finish_reason: "stop" | "length" | (string & {}) | null;
  logprobs?: {
    text_offset?: number[] | null;
    token_logprobs?: (number | null)[] | null;
    tokens?: string[] | null;
    top_logprobs?: (Record<string, number> | null)[] | null;
  } | null;
}

/** A whole answer, or a chunk of one. */
export interface Completion extends Extensible {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: CompletionChoice[];
  usage?: CompletionUsage | null;
  _request_id?: string | null;
}

export interface EmbeddingParams {
  model: ModelName;
  input: TextInput;
  /** `float`, lists of numbers, if absent. `base64`: texts, of little-endian 32-bit floats. */
  encoding_format?: "float" | "base64" | null;
  dimensions?: number | null;
  user?: string | null;
}

export interface Embedding<Vector = number[]> extends Extensible {
  object: "embedding";
  index: number;
  embedding: Vector;
}

export interface EmbeddingList<Vector = number[]> extends Extensible {
  object: "list";
  data: Embedding<Vector>[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
  _request_id?: string | null;
}
