export { BatchError, BatchResult, BatchResults, BatchTimeoutError } from "./batch.js";
export type { BatchCalls, FailedResult, ProcessOptions, SucceededResult, WaitOptions } from "./batch.js";
export type { CacheOptions } from "./cache.js";
export { Client } from "./client.js";
export {
  APIConnectionError,
  APIError,
  APIStatusError,
  APITimeoutError,
  AuthenticationError,
  HelixFlowError,
  InsufficientQuotaError,
  InvalidAPIKeyError,
  InvalidRequestError,
  ModelNotFoundError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  ServerError,
  ServiceTimeoutError,
  ServiceUnavailableError,
  StreamCutError,
  WebhookVerificationError,
} from "./errors.js";
export type { FileContent } from "./files.js";
export { APIPromise, PagePromise } from "./promise.js";
export type { Page, WithResponse } from "./promise.js";
export type {
  Batches,
  Chat,
  ChatCompletions,
  Completions,
  Embeddings,
  FileCreateParams,
  Files,
  Models,
  Requests,
  UsageCalls,
} from "./resources.js";
export type { Attempt, ClientOptions, RequestOptions } from "./settings.js";
export { Stream } from "./stream.js";
export { VERSION } from "./version.js";
export * as webhooks from "./webhooks.js";
export { verifyWebhookSignature } from "./webhooks.js";
export type { VerifyOptions, WebhookEvent, WebhookEventType, WebhookHeaders } from "./webhooks.js";
export type * from "./types/batches.js";
export type * from "./types/chat.js";
export type * from "./types/common.js";
export type * from "./types/texts.js";
export type * from "./types/usage.js";
