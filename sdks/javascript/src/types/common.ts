/** Fields that the API may add are there too, untyped. */
export interface Extensible {
  [field: string]: unknown;
}

export interface CompletionUsage extends Extensible {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number; [field: string]: unknown } | null;
  completion_tokens_details?: { reasoning_tokens?: number; [field: string]: unknown } | null;
}

export interface StreamOptions {
  /** One more chunk, before the end, with `usage` and no choices. */
  include_usage?: boolean | null;
  include_obfuscation?: boolean | null;
}

/** Names of models, with those of the reference first; any text will do. */
export type ModelName = "gpt-3.5-turbo" | "gpt-4" | (string & {});

/** Up to 16 names and values. */
export type Metadata = Record<string, string>;

export interface Model extends Extensible {
  id: string;
  object: "model";
  /** Epoch seconds. */
  created: number;
  owned_by: string;
}

export interface Health extends Extensible {
  status: "healthy" | "unhealthy" | (string & {});
  /** Epoch seconds. */
  timestamp: number;
  version: string;
  services: Record<string, string>;
}
