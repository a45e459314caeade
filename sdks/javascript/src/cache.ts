/** Answers kept in memory: the least recently used leave first. */

export interface CacheOptions {
  /** Answers to keep: 1000 if absent. */
  maxEntries?: number;
  /** Milliseconds that an answer stays good: 5 minutes if absent. */
  ttl?: number;
}

export class ResponseCache {
  readonly #maxEntries: number;
  readonly #ttl: number;
  readonly #entries = new Map<string, { text: string; expiresAt: number }>();

  constructor(options: CacheOptions) {
    this.#maxEntries = options.maxEntries ?? 1000;
    this.#ttl = options.ttl ?? 300_000;
  }

  get(key: string, now: number): string | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (entry.expiresAt <= now) return undefined;
    this.#entries.set(key, entry); // a Map keeps the order of insertion, so this one is the youngest again
    return entry.text;
  }

  set(key: string, text: string, now: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { text, expiresAt: now + this.#ttl });
    if (this.#entries.size > this.#maxEntries) {
      this.#entries.delete(this.#entries.keys().next().value as string);
    }
  }
}

/** JSON that is the same whatever order fields were written in. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === "object" && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}
