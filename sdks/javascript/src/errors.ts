/*
 * The one tree of errors.
 *
 *   HelixFlowError
 *   ├── APIError                        everything that can go wrong with a call
 *   │   ├── APIConnectionError          no answer, or not all of it
 *   │   │   ├── APITimeoutError
 *   │   │   └── StreamCutError          a stream that ended without [DONE]
 *   │   ├── APIStatusError              the API said no; by its code, or by the status where the body is not ours
 *   │   │   ├── InvalidRequestError     400, 405, 413, 415
 *   │   │   │   └── NotFoundError       404
 *   │   │   │       └── ModelNotFoundError
 *   │   │   ├── AuthenticationError     401
 *   │   │   │   └── InvalidAPIKeyError
 *   │   │   ├── PermissionDeniedError   403
 *   │   │   ├── RateLimitError          429
 *   │   │   │   └── InsufficientQuotaError
 *   │   │   └── ServerError             5xx
 *   │   │       ├── ServiceUnavailableError
 *   │   │       └── ServiceTimeoutError
 *   │   └── BatchError                  a batch that has no results to give (batch.ts)
 *   └── WebhookVerificationError
 */

export class HelixFlowError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
  }
}

export interface APIErrorFields {
  /** `rate_limit_exceeded` and its like. */
  code?: string | null;
  /** The HTTP status. */
  status?: number | null;
  /** `req_…`: what support asks for. */
  requestId?: string | null;
  /** Each bad field, with what is wrong with it. */
  details?: Record<string, unknown>;
  /** The one bad field, as `messages[0].content`. */
  param?: string | null;
  /** Seconds to wait, where the API said so. */
  retryAfter?: number | null;
  /** The body as it came: parsed, if it was JSON. */
  body?: unknown;
  headers?: Headers;
  cause?: unknown;
}

export class APIError extends HelixFlowError {
  readonly code: string | null;
  readonly status: number | null;
  readonly requestId: string | null;
  readonly details: Record<string, unknown>;
  readonly param: string | null;
  readonly retryAfter: number | null;
  declare readonly body: unknown;
  declare readonly headers: Headers | undefined;
  /** Of an error of `client.batch.process` after it had made a batch: that goes on. */
  declare batchId?: string;

  constructor(message: string, fields: APIErrorFields = {}) {
    super(message, "cause" in fields ? { cause: fields.cause } : undefined);
    this.code = fields.code ?? null;
    this.status = fields.status ?? null;
    this.requestId = fields.requestId ?? null;
    this.details = fields.details ?? {};
    this.param = fields.param ?? null;
    this.retryAfter = fields.retryAfter ?? null;
    // Not enumerable: a logged error stays short.
    Object.defineProperty(this, "body", { value: fields.body });
    Object.defineProperty(this, "headers", { value: fields.headers });
  }
}

export class APIConnectionError extends APIError {}
export class APITimeoutError extends APIConnectionError {}
export class StreamCutError extends APIConnectionError {}

export class APIStatusError extends APIError {}
export class InvalidRequestError extends APIStatusError {}
export class NotFoundError extends InvalidRequestError {}
export class ModelNotFoundError extends NotFoundError {}
export class AuthenticationError extends APIStatusError {}
export class InvalidAPIKeyError extends AuthenticationError {}
export class PermissionDeniedError extends APIStatusError {}
export class RateLimitError extends APIStatusError {}
export class InsufficientQuotaError extends RateLimitError {}
export class ServerError extends APIStatusError {}
export class ServiceUnavailableError extends ServerError {}
export class ServiceTimeoutError extends ServerError {}

export class WebhookVerificationError extends HelixFlowError {
  /** @param reason no_signature, mismatch, too_old, too_new, bad_timestamp, bad_secret or bad_payload */
  constructor(
    message: string,
    readonly reason: string,
  ) {
    super(message);
  }
}

const BY_CODE: Record<string, typeof APIStatusError> = {
  invalid_request: InvalidRequestError,
  invalid_api_key: InvalidAPIKeyError,
  authentication_failed: AuthenticationError,
  authorization_failed: PermissionDeniedError,
  model_not_found: ModelNotFoundError,
  rate_limit_exceeded: RateLimitError,
  insufficient_quota: InsufficientQuotaError,
  server_error: ServerError,
  service_unavailable: ServiceUnavailableError,
  timeout: ServiceTimeoutError,
};

const BY_STATUS: Record<number, typeof APIStatusError> = {
  401: AuthenticationError,
  403: PermissionDeniedError,
  404: NotFoundError,
  429: RateLimitError,
  503: ServiceUnavailableError,
  504: ServiceTimeoutError,
};

/** What the API said no with. `body` is parsed JSON, or text where it was none; `status` is null inside a stream. */
export function statusError(
  status: number | null,
  body: unknown,
  rest: { headers?: Headers; retryAfter?: number | null } = {},
): APIStatusError {
  const error = field(body, "error");
  const code = text(field(error, "code"));
  const details = field(error, "details");
  return new (classFor(status, code))(text(field(error, "message")) ?? text(error) ?? plainMessage(status, body), {
    code,
    status,
    requestId: rest.headers?.get("x-request-id") ?? text(field(error, "request_id")),
    details: isObject(details) ? details : {},
    param: text(field(error, "param")),
    retryAfter: rest.retryAfter ?? null,
    body,
    headers: rest.headers,
  });
}

function classFor(status: number | null, code: string | null): typeof APIStatusError {
  const byCode = code !== null && Object.hasOwn(BY_CODE, code) ? BY_CODE[code] : undefined;
  if (byCode && !(byCode === InvalidRequestError && status === 404)) return byCode;
  if (status === null) return APIStatusError;
  return BY_STATUS[status] ?? (status >= 500 ? ServerError : status >= 400 ? InvalidRequestError : APIStatusError);
}

/** For bodies that are not ours, such as a proxy's page. */
function plainMessage(status: number | null, body: unknown): string {
  if (status === null) return "The stream ended with an error.";
  if (status >= 300 && status < 400) return `The answer was HTTP ${status}, a redirect, which is not followed.`;
  const said = typeof body === "string" && !body.trimStart().startsWith("<") ? body.trim().slice(0, 200) : "";
  if (status === 404) return "The answer was HTTP 404, and not the API's. Check the base URL: it ends in /v1.";
  return said ? `The answer was HTTP ${status}: ${said}` : `The answer was HTTP ${status}.`;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function field(value: unknown, name: string): unknown {
  return isObject(value) ? value[name] : undefined;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}
