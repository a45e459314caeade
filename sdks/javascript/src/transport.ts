/** From a call to its answer: headers, tries, time, errors, the cache and the hook. Alone in knowing the key. */

import { canonical, ResponseCache } from "./cache.js";
import { uuid } from "./crypto.js";
import { Deadline } from "./deadline.js";
import { APIError, APIStatusError, StreamCutError, isObject, statusError } from "./errors.js";
import type { Answer } from "./promise.js";
import { retryAfter, retryDelay } from "./retries.js";
import { type Attempt, type RequestOptions, type Settings, inBrowser } from "./settings.js";
import { openStream } from "./stream.js";
import { VERSION } from "./version.js";

export interface Call {
  method: "GET" | "POST" | "DELETE";
  /** After the base URL: `/chat/completions`. */
  path: string;
  query?: Record<string, unknown> | undefined;
  /** FormData, or what is sent as JSON. */
  body?: unknown;
  /** `data`: out of the envelope. `response`: with its body unread. `health`: a 503 is an answer too. */
  as?: "json" | "data" | "stream" | "response" | "health";
  /** Carries an Idempotency-Key, the same on every try. */
  idempotent?: boolean;
  cacheable?: boolean;
}

export type Send = <T>(call: Call, options?: RequestOptions) => Promise<Answer<T>>;

interface Prepared {
  call: Call;
  options: RequestOptions;
  url: string;
  init: RequestInit;
  timeout: number;
  model: string | null;
}

const USER_AGENT = `helixflow-javascript/${VERSION}`;

export function transport(settings: Settings): Send {
  const cache = settings.cache ? new ResponseCache(settings.cache) : null;

  return async function send<T>(call: Call, options: RequestOptions = {}): Promise<Answer<T>> {
    const prepared = await prepare(settings, call, options);
    const kept = cache && call.cacheable && options.cache !== false ? cache : null;
    const key = kept ? canonical([call.path, call.body, options.headers]) : "";
    const text = kept?.get(key, Date.now());
    if (text !== undefined) return fromCache<T>(settings, prepared, text);
    const answer = await untilAnswered<T>(settings, prepared);
    if (kept) kept.set(key, JSON.stringify(answer.data), Date.now());
    return answer;
  };
}

async function prepare(settings: Settings, call: Call, options: RequestOptions): Promise<Prepared> {
  const { body, method } = call;
  const form = typeof FormData !== "undefined" && body instanceof FormData;
  const plain: Record<string, string> = {
    accept: call.as === "stream" ? "text/event-stream" : "application/json",
    authorization: `Bearer ${settings.apiKey}`,
  };
  if (!inBrowser()) plain["user-agent"] = USER_AGENT;
  if (body !== undefined && !form) plain["content-type"] = "application/json";
  for (const more of [settings.headers, options.headers]) {
    for (const name in more) {
      const value = more[name];
      if (value === null || value === undefined) delete plain[name.toLowerCase()];
      else plain[name.toLowerCase()] = value;
    }
  }
  if (options.idempotencyKey !== undefined) plain["idempotency-key"] = options.idempotencyKey;
  else if (call.idempotent) plain["idempotency-key"] ??= `auto-${await uuid()}`;
  return {
    call,
    options,
    url: settings.baseURL + call.path + queryString(call.query),
    init: {
      method,
      headers: new Headers(plain), // throws for what no header can hold, before anything is sent
      body: body === undefined ? null : form ? body : JSON.stringify(body),
      redirect: "manual", // never followed: it would arrive as a GET, or take its body to another host
    },
    timeout: options.timeout ?? settings.timeout,
    model: isObject(body) && typeof body["model"] === "string" ? body["model"] : null,
  };
}

async function untilAnswered<T>(settings: Settings, prepared: Prepared): Promise<Answer<T>> {
  const { options } = prepared;
  const tries = 1 + (options.maxRetries ?? settings.maxRetries);
  for (let attempt = 1; ; attempt++) {
    const log = new Log(settings, prepared, attempt);
    try {
      return await once<T>(settings, prepared, log);
    } catch (error) {
      const delay = attempt < tries ? retryDelay(error, attempt - 1, Math.random) : null;
      log.write({ error, willRetry: delay !== null });
      if (delay === null) throw error;
      await settings.sleep(delay * 1000, options.signal);
    }
  }
}

async function once<T>(settings: Settings, prepared: Prepared, log: Log): Promise<Answer<T>> {
  const { call, options, url, init, timeout } = prepared;
  options.signal?.throwIfAborted();
  const deadline = new Deadline(timeout, options.signal);
  let streaming = false;
  try {
    const response = await settings.fetch(url, { ...init, signal: deadline.controller.signal });
    log.answered(response);
    const expected = response.ok || (call.as === "health" && response.status === 503);
    if (!expected) throw refusal(response, await response.text(), settings.apiKey);
    if (call.as === "response") {
      log.write({});
      return { data: response as T, response };
    }
    if (call.as === "stream") {
      const reader = await readerOf(response, settings.apiKey);
      const { value: first } = await reader.read();
      const { headers } = response;
      if (!first) throw new StreamCutError("The stream was cut: it ended before it began.", { headers });
      streaming = true;
      deadline.stop();
      const ended = (usage: Attempt["usage"], error: unknown): void => log.write({ usage, error });
      const redact = (text: string): string => withoutKey(text, settings.apiKey);
      return { data: openStream({ first, reader, deadline, headers, redact, ended }) as T, response };
    }
    const data = read(response, await response.text(), settings.apiKey);
    if (call.as === "health" && !response.ok && !isObject(data)) {
      throw refusal(response, String(data), settings.apiKey);
    }
    log.write({ usage: isObject(data) && isObject(data["usage"]) ? data["usage"] : null });
    return { data: (call.as === "data" && isObject(data) ? data["data"] : data) as T, response };
  } catch (error) {
    throw deadline.explain(error);
  } finally {
    if (!streaming) deadline.clear();
  }
}

function refusal(response: Response, text: string, key: string): APIStatusError {
  const { headers, status } = response;
  return statusError(status, parsed(withoutKey(text, key)), { headers, retryAfter: retryAfter(headers, Date.now()) });
}

/** The answer's JSON, with the id of its request at hand as `_request_id`. */
function read(response: Response, text: string, key: string): unknown {
  const id = response.headers.get("x-request-id");
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (cause) {
    const { headers, status } = response;
    const body = withoutKey(text, key);
    throw new APIError("The answer is not JSON.", { status, requestId: id, headers, body, cause });
  }
  if (isObject(data)) Object.defineProperty(data, "_request_id", { value: id });
  return data;
}

async function readerOf(response: Response, key: string): Promise<ReadableStreamDefaultReader<Uint8Array>> {
  const { headers, status, body } = response;
  if (body === null || /\b(json|html)\b/.test(headers.get("content-type") ?? "")) {
    const text = withoutKey(await response.text(), key);
    const requestId = headers.get("x-request-id");
    throw new APIError("The answer is not a stream.", { status, requestId, headers, body: parsed(text) });
  }
  return body.getReader();
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text; // not ours: a proxy's page, or nothing
  }
}

/** A server that repeats what it was sent must not bring the key into logs. */
function withoutKey(text: string, key: string): string {
  return text.includes(key) ? text.replaceAll(key, "[API key]") : text;
}

function fromCache<T>(settings: Settings, prepared: Prepared, text: string): Answer<T> {
  const response = new Response(null, { status: 200 });
  const log = new Log(settings, prepared, 0);
  log.answered(response);
  log.write({});
  return { data: JSON.parse(text) as T, response };
}

function queryString(query: Record<string, unknown> | undefined): string {
  const given = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
  const pairs = given.map(([name, value]): [string, string] => [
    name,
    value instanceof Date ? value.toISOString() : String(value),
  ]);
  return pairs.length > 0 ? `?${new URLSearchParams(pairs)}` : "";
}

/** What the hook is told of one attempt, once. */
class Log {
  readonly #settings: Settings;
  readonly #prepared: Prepared;
  readonly #attempt: number;
  readonly #startedAt = performance.now();
  #response: Response | null = null;
  #written = false;

  constructor(settings: Settings, prepared: Prepared, attempt: number) {
    this.#settings = settings;
    this.#prepared = prepared;
    this.#attempt = attempt;
  }

  answered(response: Response): void {
    this.#response = response;
  }

  write(found: { usage?: Attempt["usage"]; error?: unknown; willRetry?: boolean }): void {
    const hook = this.#settings.onAttempt;
    if (hook === null || this.#written) return;
    this.#written = true;
    const { call, url, model } = this.#prepared;
    const { error } = found;
    try {
      hook({
        method: call.method,
        path: new URL(url).pathname,
        status: this.#response?.status ?? null,
        durationMs: performance.now() - this.#startedAt,
        attempt: this.#attempt,
        requestId: this.#response?.headers.get("x-request-id") ?? null,
        model,
        usage: found.usage ?? null,
        error: error ? ((error as Error).name ?? "Error") : null,
        willRetry: found.willRetry ?? false,
        streamed: call.as === "stream",
        cached: this.#attempt === 0,
      });
    } catch {
      // A hook only watches: its own mistakes must not break the call that it was told of.
    }
  }
}
