/** What a client is made with, and what one call can change. */

import type { CacheOptions } from "./cache.js";
import { HelixFlowError } from "./errors.js";
import { onAbort } from "./signals.js";

export const DEFAULT_BASE_URL = "https://api.helixflow.com/v1";
export const DEFAULT_TIMEOUT_MS = 600_000;
export const DEFAULT_MAX_RETRIES = 2;

/** A header that is null is not sent. */
export type HeadersLike = Record<string, string | null | undefined>;

export interface ClientOptions {
  /** The environment's `HELIXFLOW_API_KEY` if absent. */
  apiKey?: string;
  /** The environment's `HELIXFLOW_BASE_URL`, or https://api.helixflow.com/v1, if absent. */
  baseURL?: string;
  /** Milliseconds for each try: of a stream until it begins, and for its longest silence. 10 minutes if absent. */
  timeout?: number;
  /** Tries after the first: 2 if absent. */
  maxRetries?: number;
  /** Sent with every request. */
  defaultHeaders?: HeadersLike;
  /** Keep answers of chat, completions and embeddings in memory, and give equal requests the same again. */
  cache?: boolean | CacheOptions;
  /** Called after each attempt, for logs and metrics. It is never given bodies or the key. */
  onAttempt?: (attempt: Attempt) => void;
  /** A key in a web page is everybody's. `true` says that you know, and that this one is meant to be. */
  allowBrowser?: boolean;
  /** In place of the platform's `fetch`, as for a proxy. */
  fetch?: typeof globalThis.fetch;
  /** In place of waiting between tries and polls, for tests. */
  sleep?: (ms: number, signal?: AbortSignal | null) => Promise<void>;
}

export interface RequestOptions {
  /** Ends the call, and a stream that came of it. The call fails with the signal's reason. */
  signal?: AbortSignal | null;
  timeout?: number;
  maxRetries?: number;
  headers?: HeadersLike;
  /** One is made for each call; with your own, a call can be repeated after a crash without being billed twice. */
  idempotencyKey?: string;
  /** `false`: neither look into the client's cache nor keep the answer. */
  cache?: boolean;
}

export interface Attempt {
  method: string;
  /** `/v1/chat/completions` */
  path: string;
  /** null: there was no answer. */
  status: number | null;
  /** Until the answer was read, or the stream had ended or was left. */
  durationMs: number;
  /** 1 for the first; 0 for an answer out of the cache. */
  attempt: number;
  requestId: string | null;
  model: string | null;
  usage: Record<string, unknown> | null;
  /** The name of the error's class, such as `RateLimitError`. */
  error: string | null;
  willRetry: boolean;
  streamed: boolean;
  cached: boolean;
}

export interface Settings {
  apiKey: string;
  baseURL: string;
  timeout: number;
  maxRetries: number;
  headers: HeadersLike;
  cache: CacheOptions | null;
  onAttempt: ((attempt: Attempt) => void) | null;
  fetch: typeof globalThis.fetch;
  sleep: (ms: number, signal?: AbortSignal | null) => Promise<void>;
}

/** Throws HelixFlowError, which never holds the key. */
export function resolve(options: ClientOptions): Settings {
  if (inBrowser() && !options.allowBrowser) {
    throw new HelixFlowError(
      "This is a web page, whose visitors could read the API key. Call HelixFlow from your server; " +
        "or, if this key is meant for everybody, pass allowBrowser: true.",
    );
  }
  const { maxRetries = DEFAULT_MAX_RETRIES, timeout = DEFAULT_TIMEOUT_MS, cache = false } = options;
  if (!Number.isInteger(maxRetries) || maxRetries < 0) {
    throw new HelixFlowError("maxRetries must be a whole number from 0.");
  }
  if (!(timeout > 0)) throw new HelixFlowError("timeout must be a number of milliseconds above 0.");
  return {
    apiKey: checkedKey(options.apiKey ?? environment("HELIXFLOW_API_KEY")),
    baseURL: checkedURL(options.baseURL ?? environment("HELIXFLOW_BASE_URL") ?? DEFAULT_BASE_URL),
    timeout,
    maxRetries,
    headers: options.defaultHeaders ?? {},
    cache: cache === true ? {} : cache || null,
    onAttempt: options.onAttempt ?? null,
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    sleep: options.sleep ?? sleep,
  };
}

function checkedKey(given: string | undefined): string {
  const key = given?.trim();
  if (!key) throw new HelixFlowError("Give an API key: the option apiKey, or HELIXFLOW_API_KEY in the environment.");
  // Refused here, since fetch would print it: "Bearer … is an invalid header value".
  if (!/^[\x21-\x7e]+$/.test(key)) {
    throw new HelixFlowError("The API key holds characters that no key has, such as spaces.");
  }
  return key;
}

function checkedURL(given: string): string {
  let url: URL;
  try {
    url = new URL(given);
  } catch {
    throw new HelixFlowError("baseURL must be a whole address, such as https://api.helixflow.com/v1.");
  }
  if (!/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new HelixFlowError("baseURL must be an http or https address without credentials, query or fragment.");
  }
  return url.href.replace(/\/+$/, "");
}

interface ProcessLike {
  env?: Record<string, string | undefined>;
}

function environment(name: string): string | undefined {
  try {
    return (globalThis as { process?: ProcessLike }).process?.env?.[name]?.trim() || undefined;
  } catch {
    return undefined; // Deno asks for permission, and throws where it isn't given
  }
}

export function inBrowser(): boolean {
  return typeof window !== "undefined" && typeof window.document !== "undefined";
}

export function sleep(ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((done, fail) => {
    if (signal?.aborted) return fail(signal.reason);
    const timer = setTimeout(() => {
      untie();
      done();
    }, ms);
    const untie = onAbort(signal, () => {
      clearTimeout(timer);
      fail(signal?.reason);
    });
  });
}
