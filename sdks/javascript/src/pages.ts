/** Lists that go on: by `after` as OpenAI's do, or by `cursor` as those of the envelope. */

import { type Answer, type Page, PagePromise } from "./promise.js";
import { HelixFlowError, isObject } from "./errors.js";
import type { RequestOptions } from "./settings.js";
import type { Send } from "./transport.js";

type Query = Record<string, unknown>;

export function listOf<T>(send: Send, path: string, query: Query = {}, options?: RequestOptions): PagePromise<T> {
  return new PagePromise<T>(page<T>(send, path, query, options));
}

async function page<T>(send: Send, path: string, query: Query, options?: RequestOptions): Promise<Answer<Page<T>>> {
  const { data, response } = await send<Query>({ method: "GET", path, query }, options);
  const items = data["data"];
  if (!Array.isArray(items)) throw new HelixFlowError(`The answer of ${path} is not a list.`);
  const meta = data["meta"];
  if (isObject(meta) && !("next_cursor" in data)) data["next_cursor"] = meta["next_cursor"] ?? null;
  const following = next(data, items as unknown[]);
  Object.defineProperty(data, Symbol.asyncIterator, {
    value: async function* () {
      yield* items as T[];
      if (following) yield* listOf<T>(send, path, { ...query, ...following }, options);
    },
  });
  return { data: data as Page<T>, response };
}

/** The parameter that leads to the page after this; null after the last. */
function next(data: Query, items: unknown[]): Query | null {
  if (typeof data["next_cursor"] === "string") return { cursor: data["next_cursor"] };
  const last = items[items.length - 1];
  const after = data["last_id"] ?? (isObject(last) ? last["id"] : undefined);
  return data["has_more"] === true && typeof after === "string" ? { after } : null;
}
