/** One try's time, tied to the caller's signal. */

import { APIConnectionError, APIError, APITimeoutError } from "./errors.js";
import { onAbort } from "./signals.js";

const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Deadline {
  readonly controller = new AbortController();
  readonly #timeout: number;
  readonly #signal: AbortSignal | null;
  readonly #untie: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timedOut = false;

  /** @param timeout in milliseconds, from now; or, after `stop`, from each `start` */
  constructor(timeout: number, signal: AbortSignal | null | undefined) {
    this.#timeout = timeout;
    this.#signal = signal ?? null;
    this.#untie = onAbort(signal, () => this.controller.abort(signal?.reason));
    this.start();
  }

  start(): void {
    if (this.#timeout > LONGEST_TIMER_MS) return;
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      this.controller.abort();
    }, this.#timeout);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** It's over: time and the caller's signal do nothing any more. */
  clear(): void {
    this.stop();
    this.#untie();
  }

  /** Whether the controller was aborted by whoever has it, for neither of our reasons. */
  get left(): boolean {
    return this.controller.signal.aborted && !this.#timedOut && !this.#signal?.aborted;
  }

  /** What to throw for a failure of `fetch`, or of reading a body. */
  explain(error: unknown): unknown {
    if (error instanceof APIError) return error;
    if (this.#timedOut) return new APITimeoutError(`Nothing came within ${this.#timeout / 1000} s.`, { cause: error });
    if (this.#signal?.aborted) return this.#signal.reason;
    const cause = error instanceof Error ? (error.cause as { code?: string; message?: string } | undefined) : undefined;
    const fields = { cause: error };
    if (cause?.code?.includes("TIMEOUT")) return new APITimeoutError("Nothing came in time.", fields);
    return new APIConnectionError(`The connection failed: ${cause?.message || cause?.code || String(error)}`, fields);
  }
}
