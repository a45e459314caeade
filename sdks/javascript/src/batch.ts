/** `client.batch`: hand over any number of requests in one call, wait, and have the results in their order. */

import { APIError, type APIErrorFields, isObject, statusError } from "./errors.js";
import { isTransient } from "./retries.js";
import type { RequestOptions } from "./settings.js";
import type { Batches, Files } from "./resources.js";
import type { Batch, BatchEndpoint, BatchRequest, BatchRow } from "./types/batches.js";
import type { ChatCompletion } from "./types/chat.js";
import type { Metadata } from "./types/common.js";
import type { Completion, EmbeddingList } from "./types/texts.js";

const INLINE_REQUESTS = 1000;
const INLINE_BYTES = 8_000_000;
const ENDED = new Set(["completed", "failed", "expired", "cancelled"]);
const PAGE = 1000;
const FIRST_POLL_MS = 500;
const LONGEST_POLL_MS = 10_000;
const POLL_GROWTH = 1.5;
const OUTAGE_MS = 600_000; // failures on end after which waiting is given up
const LONGEST_LOOK_MS = 60_000; // so long the API may take to say how a batch is, where there is a time to keep

export interface WaitOptions {
  /** Milliseconds for the whole; no end if absent. After it BatchTimeoutError is thrown, and the batch goes on. */
  timeout?: number;
  /** Called whenever the batch was looked at. If absent, a line on the terminal tells. `false`: nothing does. */
  onProgress?: ((batch: Batch) => void) | false;
  /** Stops waiting. It does not cancel the batch. */
  signal?: AbortSignal | null;
}

export interface ProcessOptions extends WaitOptions {
  /** `/v1/chat/completions` if absent. */
  endpoint?: BatchEndpoint;
  metadata?: Metadata | null;
  /**
   * With one of your own, a program that was killed can be started again and joins the batch it made, if that needed
   * no file.
   */
  idempotencyKey?: string;
  headers?: RequestOptions["headers"];
}

/** A batch without results to give: it failed as a whole, or could not be followed any longer. */
export class BatchError extends APIError {
  declare batchId: string;

  constructor(
    message: string,
    batchId: string,
    /** As it was last seen. */
    readonly batch: Batch | null,
    fields: APIErrorFields = {},
  ) {
    super(message, fields);
    this.batchId = batchId;
  }
}

/** The batch goes on: `client.batch.wait(error.batchId)` waits again, `client.batch.results(…)` gets its results. */
export class BatchTimeoutError extends BatchError {}

interface AnyResult<T> {
  readonly custom_id: string;
  /** The response; throws the error if there is none. */
  unwrap(): T;
}

export interface SucceededResult<T = ChatCompletion> extends AnyResult<T> {
  readonly ok: true;
  readonly response: T;
  readonly error: null;
}

export interface FailedResult<T = ChatCompletion> extends AnyResult<T> {
  readonly ok: false;
  readonly response: null;
  /** What a single call would have thrown. */
  readonly error: APIError;
}

/** Which of the two, `ok` tells. */
export type BatchResult<T = ChatCompletion> = SucceededResult<T> | FailedResult<T>;

export const BatchResult = class BatchResult<T = ChatCompletion> implements AnyResult<T> {
  readonly custom_id: string;
  readonly response: T | null;
  readonly error: APIError | null;

  constructor(row: BatchRow) {
    const { response, error } = row;
    const refused = response !== null && response.status_code >= 400;
    this.custom_id = row.custom_id;
    this.response = response !== null && !refused && !error ? (response.body as T) : null;
    this.error = this.response === null ? errorOf(row, refused) : null;
  }

  get ok(): boolean {
    return this.error === null;
  }

  unwrap(): T {
    if (this.response === null) throw this.error;
    return this.response;
  }
};

function errorOf({ response, error }: BatchRow, refused: boolean): APIError {
  const body = refused && isObject(response?.body) && response.body["error"] ? response.body : { error };
  const made = statusError(response?.status_code ?? null, body);
  if (made.requestId === null && response?.request_id) {
    Object.defineProperty(made, "requestId", { value: response.request_id, enumerable: true });
  }
  return made;
}

/** In the order of the requests. */
export class BatchResults<T = ChatCompletion> extends Array<BatchResult<T>> {
  declare readonly batch: Batch;

  /** What `map` and its like make is an ordinary array. */
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }

  get succeeded(): SucceededResult<T>[] {
    return this.filter((result) => result.ok);
  }

  get failed(): FailedResult<T>[] {
    return this.filter((result) => !result.ok);
  }
}

function resultsOf<T>(batch: Batch, rows: BatchRow[]): BatchResults<T> {
  const results = new BatchResults<T>();
  for (const row of rows) results.push(new BatchResult<T>(row) as BatchResult<T>);
  Object.defineProperty(results, "batch", { value: batch }); // not enumerable, as an array has nothing but its items
  return results;
}

type Requests = Iterable<BatchRequest>;
type Embeds = { endpoint: "/v1/embeddings" };
type Completes = { endpoint: "/v1/completions" };

export interface BatchCalls {
  /** Makes a batch, through a file if it is large, waits for its end and returns the results in order. */
  process(requests: Requests, options: ProcessOptions & Embeds): Promise<BatchResults<EmbeddingList>>;
  process(requests: Requests, options: ProcessOptions & Completes): Promise<BatchResults<Completion>>;
  process(requests: Requests, options?: ProcessOptions): Promise<BatchResults>;
  /** Until the batch has ended, in whatever way. */
  wait(id: string, options?: WaitOptions): Promise<Batch>;
  /** All results, in order; of a batch under way, those there are. Throws BatchError if it failed as a whole. */
  results<T = ChatCompletion>(id: string, options?: RequestOptions): Promise<BatchResults<T>>;
}

interface Tools {
  files: Files;
  batches: Batches;
  sleep: (ms: number, signal?: AbortSignal | null) => Promise<void>;
}

export function batchCalls({ files, batches, sleep }: Tools): BatchCalls {
  async function process<T>(requests: Requests, options: ProcessOptions = {}): Promise<BatchResults<T>> {
    const { endpoint, metadata, signal, headers, idempotencyKey } = options;
    const started = performance.now();
    const given = Array.from(requests);
    const call = { signal, headers };
    const rest = metadata ? { metadata } : {};
    let made: Batch;
    if (fitsInline(given)) {
      const body = { requests: given, ...(endpoint ? { endpoint } : {}), ...rest };
      made = await batches.create(body, { ...call, idempotencyKey });
    } else {
      const url = endpoint ?? "/v1/chat/completions";
      const file = new Blob(linesOf(given, url), { type: "application/jsonl" });
      const { id } = await files.create({ file, purpose: "batch", filename: "batch.jsonl" }, call);
      const body = { input_file_id: id, endpoint: url, completion_window: "24h" as const, ...rest };
      made = await batches.create(body, { ...call, idempotencyKey });
    }
    const timeout = options.timeout === undefined ? undefined : options.timeout - (performance.now() - started);
    try {
      const batch = await follow(made.id, made, { ...options, timeout });
      return await collect<T>(batch, call);
    } catch (error) {
      if (error instanceof APIError) error.batchId ??= made.id;
      throw error;
    }
  }

  async function follow(id: string, made: Batch | null, options: WaitOptions): Promise<Batch> {
    const { timeout = Infinity, signal } = options;
    const progress = options.onProgress === false ? null : (options.onProgress ?? terminal());
    const patience = new Patience(id, made, timeout, (ms) => sleep(ms, signal));
    const look = (): Promise<Batch> => patience.ask(() => batches.retrieve(id, { signal, ...patience.ofOneLook }));
    try {
      let batch = made ?? (await look());
      for (let pause = FIRST_POLL_MS; ; pause = longer(pause)) {
        patience.seen = batch;
        progress?.(batch);
        if (ENDED.has(batch.status)) return batch;
        await patience.rest(pause);
        batch = await look();
      }
    } finally {
      (progress as Progress | null)?.end?.();
    }
  }

  async function collect<T>(batch: Batch, options?: RequestOptions): Promise<BatchResults<T>> {
    const { id } = batch;
    if (batch.status === "failed") throw failure(batch);
    const patience = new Patience(id, batch, Infinity, (ms) => sleep(ms, options?.signal));
    const rows: BatchRow[] = [];
    for (let after: string | undefined, more = true; more; ) {
      const page = await patience.ask(() => batches.results(id, { limit: PAGE, after }, options));
      rows.push(...page.data);
      after = page.last_id ?? page.data.at(-1)?.id;
      more = page.has_more === true && after !== undefined;
    }
    return resultsOf<T>(batch, rows);
  }

  return {
    process: process as BatchCalls["process"],
    wait: (id, options = {}) => follow(id, null, options),
    results: async (id, options) => collect(await batches.retrieve(id, options), options),
  };
}

/** Waits for a batch: outlasts failures that pass, up to the caller's time, and up to an outage too long to be one. */
class Patience {
  readonly #id: string;
  readonly #timeout: number;
  readonly #sleep: (ms: number) => Promise<void>;
  readonly #startedAt = performance.now();
  #rested = 0; // counted, so that a test's sleep passes the time too
  seen: Batch | null;

  /** @param timeout in milliseconds */
  constructor(id: string, seen: Batch | null, timeout: number, sleep: (ms: number) => Promise<void>) {
    this.#id = id;
    this.seen = seen;
    this.#timeout = timeout;
    this.#sleep = sleep;
  }

  get #left(): number {
    return this.#timeout - Math.max(this.#rested, performance.now() - this.#startedAt);
  }

  /** An API that doesn't answer must not keep its callers beyond their time. */
  get ofOneLook(): RequestOptions {
    if (this.#timeout === Infinity) return {};
    return { timeout: Math.min(Math.max(this.#left, 1000), LONGEST_LOOK_MS), maxRetries: 0 };
  }

  async rest(ms: number): Promise<void> {
    const left = this.#left;
    if (left <= 0) throw new BatchTimeoutError(`${this.#id} has not ended in time; it goes on.`, this.#id, this.seen);
    await this.#sleep(Math.min(ms, left));
    this.#rested += Math.min(ms, left);
  }

  async ask<T>(question: () => Promise<T>): Promise<T> {
    const before = this.#rested;
    for (let pause = FIRST_POLL_MS; ; pause = longer(pause)) {
      try {
        return await question();
      } catch (error) {
        if (!isTransient(error)) throw error;
        if (this.#rested - before > OUTAGE_MS) {
          const { code, status, requestId, message } = error;
          const fields = { code, status, requestId, cause: error };
          throw new BatchError(`${this.#id} can't be followed any longer: ${message}`, this.#id, this.seen, fields);
        }
        await this.rest(Math.max(pause, (error.retryAfter ?? 0) * 1000));
      }
    }
  }
}

function longer(pause: number): number {
  return Math.min(pause * POLL_GROWTH, LONGEST_POLL_MS);
}

function fitsInline(requests: BatchRequest[]): boolean {
  if (requests.length > INLINE_REQUESTS) return false;
  const encoder = new TextEncoder();
  let bytes = 0;
  return requests.every((request) => (bytes += encoder.encode(JSON.stringify(request)).length) <= INLINE_BYTES);
}

function linesOf(requests: BatchRequest[], url: BatchEndpoint): string[] {
  return requests.map(({ custom_id, ...body }, index) => {
    const line = { custom_id: custom_id ?? `request-${index + 1}`, method: "POST", url, body };
    return `${JSON.stringify(line)}\n`;
  });
}

function failure(batch: Batch): BatchError {
  const first = batch.errors?.data[0];
  const where = first?.line ? ` (line ${first.line})` : "";
  const why = first ? `: ${first.message}${where}` : "";
  const fields = { code: first?.code, param: first?.param, requestId: batch._request_id, body: batch.errors };
  return new BatchError(`${batch.id} failed${why}`, batch.id, batch, fields);
}

type Progress = ((batch: Batch) => void) & { end?: () => void };

interface Terminal {
  isTTY?: boolean;
  write(text: string): unknown;
}

/** One line that rewrites itself, where a person watches; else null. */
function terminal(): Progress | null {
  const stderr = (globalThis as { process?: { stderr?: Terminal } }).process?.stderr;
  if (!stderr?.isTTY) return null;
  let written = false;
  const show = (batch: Batch): void => {
    const { total, completed, failed } = batch.request_counts;
    const trouble = failed ? `, ${failed} failed` : "";
    written = true;
    stderr.write(`\r\x1b[K${batch.id}: ${batch.status}, ${completed + failed} of ${total}${trouble}`);
  };
  return Object.assign(show, { end: () => void (written && stderr.write("\n")) });
}
