/** Whether an event is from HelixFlow: by Standard Webhooks, the reference's signature, or that of the next secret. */

import { webCrypto } from "./crypto.js";
import { WebhookVerificationError, isObject } from "./errors.js";

const PREFIX = "whsec_";
const TOLERANCE_S = 300;
const STANDARD = ["webhook-id", "webhook-timestamp", "webhook-signature"] as const;
const REFERENCE = ["x-helixflow-signature", "x-helixflow-signature-next"] as const;

export type WebhookEventType =
  | "completion.created"
  | "completion.failed"
  | "rate_limit.exceeded"
  | "quota.low"
  | "batch.completed"
  | (string & {});

export interface WebhookEvent {
  /** The same on every attempt, so work on each once. null without the headers of Standard Webhooks. */
  id: string | null;
  event: WebhookEventType;
  /** RFC 3339. */
  timestamp: string;
  data: Record<string, unknown>;
  [field: string]: unknown;
}

export interface VerifyOptions {
  /** Seconds that an attempt may be away from now: 300 if absent. */
  tolerance?: number;
  /** Epoch seconds, or a Date; the clock's if absent. */
  now?: number | Date;
}

/** A `Headers`, Node's `request.headers`, or names and values. */
export type WebhookHeaders = Headers | Record<string, string | string[] | undefined>;

type Payload = string | Uint8Array | ArrayBuffer;

/**
 * The event, if its signature is right. `payload` is the body as it came, before anything parsed it.
 * During a rotation give both secrets. Throws WebhookVerificationError, whose `reason` says why.
 */
export async function verify(
  payload: Payload,
  headers: WebhookHeaders,
  secret: string | string[],
  options: VerifyOptions = {},
): Promise<WebhookEvent> {
  const body = bytesOf(payload);
  const secrets = Array.isArray(secret) ? secret : [secret];
  // An empty one, of a variable that isn't set, is known to everybody.
  if (secrets.length === 0 || !secrets.every(Boolean)) {
    throw new WebhookVerificationError("No secret was given, or an empty one.", "bad_secret");
  }
  const header = reader(headers);
  const standard = STANDARD.map(header);
  let id: string | null = null;
  // They decide where any of them is there: falling back would lift the protection against replays.
  if (standard.some((value) => value !== null)) {
    id = await verifyStandard(body, standard, secrets, options);
  } else {
    await verifyReference(body, REFERENCE.map(header), secrets);
  }
  return parse(body, id);
}

/** The reference's function: the signature is the header X-HelixFlow-Signature. Throws nothing. */
export async function verifyWebhookSignature(payload: Payload, signature: string, secret: string): Promise<boolean> {
  const expected = hex(await hmac(utf8(secret), bytesOf(payload)));
  return equal(utf8(expected), utf8(String(signature)));
}

async function verifyStandard(
  body: Uint8Array,
  [id, timestamp, signatures]: (string | null)[],
  secrets: string[],
  options: VerifyOptions,
): Promise<string> {
  if (!id || !timestamp || !signatures) {
    throw new WebhookVerificationError("A signing header is missing.", "no_signature");
  }
  checkTime(timestamp, options);
  const keys = secrets.map(decoded).filter((key) => key !== null);
  if (keys.length === 0) {
    throw new WebhookVerificationError("The secret is not whsec_ and base64, as it was shown.", "bad_secret");
  }
  const signed = concat(utf8(`${id}.${timestamp}.`), body);
  const given = signatures.split(" ").filter((each) => each.startsWith("v1,"));
  let fits = false;
  for (const key of keys) {
    const expected = utf8(`v1,${base64(await hmac(key, signed))}`);
    for (const each of given) fits = equal(expected, utf8(each)) || fits;
  }
  if (!fits) throw mismatch();
  return id;
}

async function verifyReference(body: Uint8Array, signatures: (string | null)[], secrets: string[]): Promise<void> {
  const given = signatures.filter((each) => each !== null);
  if (given.length === 0) throw new WebhookVerificationError("There is no signature.", "no_signature");
  let fits = false;
  for (const secret of secrets) {
    const expected = utf8(hex(await hmac(utf8(secret), body)));
    for (const each of given) fits = equal(expected, utf8(each)) || fits;
  }
  if (!fits) throw mismatch();
}

function mismatch(): WebhookVerificationError {
  return new WebhookVerificationError("No signature fits: another secret, or the body was changed.", "mismatch");
}

function checkTime(timestamp: string, { tolerance = TOLERANCE_S, now = Date.now() / 1000 }: VerifyOptions): void {
  if (!/^\d{1,15}$/.test(timestamp)) {
    throw new WebhookVerificationError("webhook-timestamp is not a whole number.", "bad_timestamp");
  }
  const age = (now instanceof Date ? now.getTime() / 1000 : now) - Number(timestamp);
  if (age > tolerance) throw new WebhookVerificationError("The attempt is too old.", "too_old");
  if (age < -tolerance) throw new WebhookVerificationError("The attempt is from the future.", "too_new");
}

function parse(body: Uint8Array, id: string | null): WebhookEvent {
  let event: unknown;
  try {
    event = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw new WebhookVerificationError("The payload is not JSON.", "bad_payload");
  }
  if (!isObject(event) || typeof event["event"] !== "string") {
    throw new WebhookVerificationError("The payload is not an event.", "bad_payload");
  }
  return { ...event, id } as WebhookEvent;
}

function reader(headers: WebhookHeaders): (name: string) => string | null {
  if (typeof (headers as Headers).get === "function") return (name) => (headers as Headers).get(name);
  const values = new Map<string, string>();
  for (const [name, value] of Object.entries(headers as Record<string, string | string[] | undefined>)) {
    if (value !== undefined) values.set(name.toLowerCase(), Array.isArray(value) ? value.join(" ") : value);
  }
  return (name) => values.get(name) ?? null;
}

async function hmac(key: Uint8Array, data: Uint8Array): Promise<Uint8Array> {
  const { subtle } = await webCrypto();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await subtle.importKey("raw", key as BufferSource, algorithm, false, ["sign"]);
  return new Uint8Array(await subtle.sign("HMAC", imported, data as BufferSource));
}

/** Takes as long wherever they differ. */
function equal(one: Uint8Array, other: Uint8Array): boolean {
  let difference = one.length ^ other.length;
  for (let at = 0; at < one.length; at++) difference |= (one[at] as number) ^ (other[at] ?? 0);
  return difference === 0;
}

/** The bytes that a secret stands for; null if it is none of Standard Webhooks. */
function decoded(secret: string): Uint8Array | null {
  const text = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function bytesOf(payload: Payload): Uint8Array {
  return typeof payload === "string" ? utf8(payload) : new Uint8Array(payload as ArrayBuffer);
}

function concat(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}
