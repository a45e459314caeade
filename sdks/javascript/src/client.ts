import { type BatchCalls, batchCalls } from "./batch.js";
import type { APIPromise } from "./promise.js";
import {
  type Batches,
  type Chat,
  type Completions,
  type Embeddings,
  type Files,
  type Models,
  type Requests,
  type UsageCalls,
  resources,
} from "./resources.js";
import { type ClientOptions, type RequestOptions, resolve } from "./settings.js";
import { transport } from "./transport.js";
import type { Health } from "./types/common.js";

/**
 * HelixFlow. One client serves a whole program: it holds no state but connections, and the cache if there is one.
 *
 *     const client = new Client({ apiKey: "…" });
 *
 * Throws HelixFlowError for settings that can't be.
 */
export class Client {
  readonly chat: Chat;
  readonly completions: Completions;
  readonly embeddings: Embeddings;
  readonly models: Models;
  readonly files: Files;
  readonly batches: Batches;
  /** Many requests in one call: `await client.batch.process([...])`. */
  readonly batch: BatchCalls;
  readonly usage: UsageCalls;
  readonly requests: Requests;
  /** How the API is, from its own view; needs no valid key. */
  readonly health: (options?: RequestOptions) => APIPromise<Health>;
  /** Without a slash at its end. */
  readonly baseURL: string;
  // Private to the language, so that nothing that prints a client prints the key.
  readonly #options: ClientOptions;

  constructor(options: ClientOptions = {}) {
    const settings = resolve(options);
    const calls = resources(transport(settings));
    this.#options = options;
    this.baseURL = settings.baseURL;
    this.chat = calls.chat;
    this.completions = calls.completions;
    this.embeddings = calls.embeddings;
    this.models = calls.models;
    this.files = calls.files;
    this.batches = calls.batches;
    this.batch = batchCalls({ files: calls.files, batches: calls.batches, sleep: settings.sleep });
    this.usage = calls.usage;
    this.requests = calls.requests;
    this.health = calls.health;
  }

  /** Another client, with other settings where they are given. */
  withOptions(options: ClientOptions): Client {
    return new Client({ ...this.#options, ...options });
  }
}
