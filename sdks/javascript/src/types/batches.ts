/** `/files` and `/batches`. Times are epoch seconds. */

import type { ChatCompletionParams } from "./chat.js";
import type { Extensible, Metadata } from "./common.js";
import type { CompletionParams, EmbeddingParams } from "./texts.js";

export interface FileObject extends Extensible {
  id: string;
  object: "file";
  bytes: number;
  created_at: number;
  expires_at?: number | null;
  filename: string;
  purpose: string;
  status?: string;
}

export interface FileDeleted extends Extensible {
  id: string;
  object: "file";
  deleted: boolean;
}

export type BatchEndpoint = "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings";

/** One request of a batch: that of a single call, with a name of yours. */
export type BatchRequest = (ChatCompletionParams | CompletionParams | EmbeddingParams) & {
  /** `request-1`, `request-2`, … if absent. */
  custom_id?: string;
};

export type BatchCreateParams =
  | {
      /** At most 1,000. */
      requests: BatchRequest[];
      /** `/v1/chat/completions` if absent. */
      endpoint?: BatchEndpoint;
      metadata?: Metadata | null;
    }
  | {
      input_file_id: string;
      endpoint: BatchEndpoint;
      completion_window: "24h";
      metadata?: Metadata | null;
    };

export type BatchStatus =
  | "validating"
  | "in_progress"
  | "finalizing"
  | "completed"
  | "failed"
  | "expired"
  | "cancelling"
  | "cancelled";

export interface BatchIssue extends Extensible {
  code: string;
  message: string;
  param?: string | null;
  /** Of the input file, from 1. */
  line?: number | null;
}

export interface Batch extends Extensible {
  id: string;
  object: "batch";
  endpoint: string;
  errors: { object: "list"; data: BatchIssue[] } | null;
  input_file_id: string | null;
  completion_window: string;
  status: BatchStatus | (string & {});
  output_file_id: string | null;
  error_file_id: string | null;
  created_at: number;
  in_progress_at: number | null;
  expires_at: number | null;
  finalizing_at: number | null;
  completed_at: number | null;
  failed_at: number | null;
  expired_at: number | null;
  cancelling_at: number | null;
  cancelled_at: number | null;
  request_counts: { total: number; completed: number; failed: number };
  metadata: Metadata | null;
  usage?: Record<string, unknown> | null;
  /** Decimal text. */
  cost?: string | null;
  _request_id?: string | null;
}

/** A line of a batch's results, as on the wire. `client.batch` makes `BatchResult`s of them. */
export interface BatchRow extends Extensible {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string | null; body: unknown } | null;
  error: { code: string; message: string; [field: string]: unknown } | null;
}
