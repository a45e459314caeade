/** When to try again, and after how long. Pure. */

import { APIConnectionError, APIError, APIStatusError } from "./errors.js";

const FIRST_S = 0.5;
const LONGEST_S = 8;
const JITTER = 0.25;
const RETRY_AFTER_AT_MOST_S = 60;
const TRANSIENT = new Set([408, 409, 429]);

/** Seconds to wait before trying again, or null if trying again is of no use. `attempt` counts from 0. */
export function retryDelay(error: unknown, attempt: number, random: () => number): number | null {
  if (!isTransient(error)) return null;
  if (error.retryAfter !== null) return error.retryAfter <= RETRY_AFTER_AT_MOST_S ? error.retryAfter : null;
  return Math.min(FIRST_S * 2 ** attempt, LONGEST_S) * (1 - JITTER * random());
}

/** Whether the same call may well succeed in a while. */
export function isTransient(error: unknown): error is APIError {
  if (error instanceof APIConnectionError) return true;
  if (!(error instanceof APIStatusError)) return false;
  const told = error.headers?.get("x-should-retry");
  if (told === "true" || told === "false") return told === "true";
  const status = error.status ?? 0;
  return TRANSIENT.has(status) || status >= 500;
}

/** `Retry-After` in seconds, given as such or as an HTTP date; null where it is absent or neither. `now` is in ms. */
export function retryAfter(headers: Headers, now: number): number | null {
  const value = headers.get("retry-after")?.trim();
  if (!value) return null;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value);
  const at = /[a-z]/i.test(value) ? Date.parse(value) : NaN;
  return Number.isNaN(at) ? null : Math.max(0, (at - now) / 1000);
}
