/** The calls: each is a path, a body and the type of its answer. */

import { HelixFlowError } from "./errors.js";
import { type FileContent, toForm } from "./files.js";
import { listOf } from "./pages.js";
import { APIPromise, type PagePromise } from "./promise.js";
import type { RequestOptions } from "./settings.js";
import type { Stream } from "./stream.js";
import type { Call, Send } from "./transport.js";
import type { Batch, BatchCreateParams, BatchRow, FileDeleted, FileObject } from "./types/batches.js";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionParams,
  ChatCompletionParamsBase,
  ChatCompletionStreamingParams,
} from "./types/chat.js";
import type { Health, Model } from "./types/common.js";
import type {
  Completion,
  CompletionParams,
  CompletionParamsBase,
  CompletionStreamingParams,
  EmbeddingList,
  EmbeddingParams,
} from "./types/texts.js";
import type {
  Receipt,
  RequestListParams,
  RequestRecord,
  TimeseriesParams,
  Usage,
  UsageTimeseries,
} from "./types/usage.js";

export interface ChatCompletions {
  create(params: ChatCompletionParams, options?: RequestOptions): APIPromise<ChatCompletion>;
  create(params: ChatCompletionStreamingParams, options?: RequestOptions): APIPromise<Stream<ChatCompletionChunk>>;
  create(
    params: ChatCompletionParamsBase & { stream?: boolean | null },
    options?: RequestOptions,
  ): APIPromise<ChatCompletion | Stream<ChatCompletionChunk>>;
}

export interface Chat {
  completions: ChatCompletions;
}

export interface Completions {
  create(params: CompletionParams, options?: RequestOptions): APIPromise<Completion>;
  create(params: CompletionStreamingParams, options?: RequestOptions): APIPromise<Stream<Completion>>;
  create(
    params: CompletionParamsBase & { stream?: boolean | null },
    options?: RequestOptions,
  ): APIPromise<Completion | Stream<Completion>>;
}

export interface Embeddings {
  create(
    params: EmbeddingParams & { encoding_format: "base64" },
    options?: RequestOptions,
  ): APIPromise<EmbeddingList<string>>;
  create(params: EmbeddingParams, options?: RequestOptions): APIPromise<EmbeddingList>;
}

export interface Models {
  list(options?: RequestOptions): PagePromise<Model>;
  retrieve(model: string, options?: RequestOptions): APIPromise<Model>;
}

export interface FileCreateParams {
  file: FileContent;
  purpose: "batch" | (string & {});
  /** Where `file` has no name of its own. */
  filename?: string;
}

export interface Files {
  create(params: FileCreateParams, options?: RequestOptions): APIPromise<FileObject>;
  list(
    query?: { limit?: number; after?: string; purpose?: string },
    options?: RequestOptions,
  ): PagePromise<FileObject>;
  retrieve(id: string, options?: RequestOptions): APIPromise<FileObject>;
  /** The file as a Response: `await (await client.files.content(id)).text()`. */
  content(id: string, options?: RequestOptions): APIPromise<Response>;
  delete(id: string, options?: RequestOptions): APIPromise<FileDeleted>;
}

export interface Batches {
  create(params: BatchCreateParams, options?: RequestOptions): APIPromise<Batch>;
  list(query?: { limit?: number; after?: string }, options?: RequestOptions): PagePromise<Batch>;
  retrieve(id: string, options?: RequestOptions): APIPromise<Batch>;
  cancel(id: string, options?: RequestOptions): APIPromise<Batch>;
  /** A new batch of the requests that failed. */
  retry(id: string, options?: RequestOptions): APIPromise<Batch>;
  /** In the order of the requests; `limit` is 1 to 1000. */
  results(id: string, query?: { limit?: number; after?: string }, options?: RequestOptions): PagePromise<BatchRow>;
}

export interface UsageCalls {
  /** What is left of the minute and the month, and what was used. */
  retrieve(options?: RequestOptions): APIPromise<Usage>;
  timeseries(query?: TimeseriesParams, options?: RequestOptions): APIPromise<UsageTimeseries>;
}

export interface Requests {
  /** The newest first. */
  list(query?: RequestListParams, options?: RequestOptions): PagePromise<RequestRecord>;
  /** By its id, `req_…`, or its completion's. It appears about a second after the request has ended. */
  retrieve(id: string, options?: RequestOptions): APIPromise<Receipt>;
}

export function resources(send: Send) {
  const call = <T>(what: Call, options?: RequestOptions): APIPromise<T> => new APIPromise<T>(send<T>(what, options));
  const get = <T>(path: string, options?: RequestOptions): APIPromise<T> => call<T>({ method: "GET", path }, options);

  /** A call of a model, which may be answered as a stream, must not be billed twice, and may be kept. */
  const model = (path: string) => (body: { stream?: boolean | null }, options?: RequestOptions) =>
    call<never>(
      body.stream
        ? { method: "POST", path, body, idempotent: true, as: "stream" }
        : { method: "POST", path, body, idempotent: true, cacheable: true },
      options,
    );

  const chat: Chat = { completions: { create: model("/chat/completions") } };
  const completions: Completions = { create: model("/completions") };
  const embeddings = { create: model("/embeddings") } as Embeddings;

  const models: Models = {
    list: (options) => listOf(send, "/models", {}, options),
    retrieve: (name, options) => get(`/models/${segment(name)}`, options),
  };

  const files: Files = {
    create: ({ file, purpose, filename }, options) =>
      new APIPromise(
        toForm(file, purpose, filename).then((body) => send({ method: "POST", path: "/files", body }, options)),
      ),
    list: (query, options) => listOf(send, "/files", query, options),
    retrieve: (id, options) => get(`/files/${segment(id)}`, options),
    content: (id, options) => call({ method: "GET", path: `/files/${segment(id)}/content`, as: "response" }, options),
    delete: (id, options) => call({ method: "DELETE", path: `/files/${segment(id)}` }, options),
  };

  const batches: Batches = {
    create: (body, options) => call({ method: "POST", path: "/batches", body, idempotent: true }, options),
    list: (query, options) => listOf(send, "/batches", query, options),
    retrieve: (id, options) => get(`/batches/${segment(id)}`, options),
    cancel: (id, options) => call({ method: "POST", path: `/batches/${segment(id)}/cancel` }, options),
    retry: (id, options) => call({ method: "POST", path: `/batches/${segment(id)}/retry`, idempotent: true }, options),
    results: (id, query, options) => listOf(send, `/batches/${segment(id)}/results`, query, options),
  };

  const usage: UsageCalls = {
    retrieve: (options) => call({ method: "GET", path: "/usage", as: "data" }, options),
    timeseries: (query, options) =>
      call({ method: "GET", path: "/usage/timeseries", query: { ...query }, as: "data" }, options),
  };

  const requests: Requests = {
    list: (query, options) => listOf(send, "/requests", { ...query }, options),
    retrieve: (id, options) => call({ method: "GET", path: `/requests/${segment(id)}`, as: "data" }, options),
  };

  /** An unhealthy API is an answer too, and not tried again. */
  const health = (options?: RequestOptions): APIPromise<Health> =>
    call({ method: "GET", path: "/health", as: "health" }, options);

  return { chat, completions, embeddings, models, files, batches, usage, requests, health };
}

/** An id as one part of a path, which `..` would lead out of. */
function segment(id: string): string {
  if (typeof id !== "string" || /^\.{0,2}$/.test(id)) throw new HelixFlowError(`${JSON.stringify(id)} is not an id.`);
  return encodeURIComponent(id);
}
