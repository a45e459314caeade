/** Many calls may share one signal, such as that of a program's end: it gets one listener, or Node warns of a leak. */

const listening = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `left` when the signal aborts, which it has not yet. Returns what takes that back. */
export function onAbort(signal: AbortSignal | null | undefined, left: () => void): () => void {
  if (!signal) return () => undefined;
  let all = listening.get(signal);
  if (!all) {
    const made = new Set<() => void>();
    listening.set(signal, (all = made));
    signal.addEventListener("abort", () => made.forEach((each) => each()), { once: true });
  }
  all.add(left);
  return () => void all.delete(left);
}
