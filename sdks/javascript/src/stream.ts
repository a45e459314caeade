/** A stream of chunks. Leaving its loop closes the connection, and so stops the model. */

import type { Deadline } from "./deadline.js";
import {
  APIConnectionError,
  APIError,
  APITimeoutError,
  HelixFlowError,
  StreamCutError,
  isObject,
  statusError,
} from "./errors.js";
import { EventDecoder } from "./sse.js";

const DRAIN_MS = 1000;

/** What a stream is read from; `ended` is called once. */
export interface Source {
  first: Uint8Array;
  reader: ReadableStreamDefaultReader<Uint8Array>;
  deadline: Deadline;
  headers: Headers;
  /** Takes the key out of a text. */
  redact: (text: string) => string;
  ended: (usage: Record<string, unknown> | null, error: unknown) => void;
}

interface Piece {
  delta?: { content?: string | null };
  text?: string;
}

export class Stream<T> implements AsyncIterable<T> {
  /** Aborting it ends the stream. */
  readonly controller: AbortController;
  readonly #chunks: AsyncGenerator<T, void, undefined>;
  #taken = false;

  constructor(chunks: AsyncGenerator<T, void, undefined>, controller: AbortController) {
    this.#chunks = chunks;
    this.controller = controller;
  }

  /** Closes the connection. A loop over the stream then ends. */
  abort(): void {
    this.controller.abort();
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    if (this.#taken) throw new HelixFlowError("A stream can be read only once.");
    this.#taken = true;
    return this.#chunks;
  }

  /** The pieces of the first choice's text alone, of chat or of a completion. */
  async *text(): AsyncGenerator<string, void, undefined> {
    for await (const chunk of this) {
      const choice = (chunk as { choices?: Piece[] }).choices?.[0];
      const piece = choice?.delta?.content ?? choice?.text;
      if (piece) yield piece;
    }
  }

  /** The chunks as lines of JSON, to hand on to a browser; `Stream.fromReadableStream` reads them there. */
  toReadableStream(): ReadableStream<Uint8Array> {
    const chunks = this[Symbol.asyncIterator]();
    const encoder = new TextEncoder();
    return new ReadableStream({
      async pull(target) {
        const next = await chunks.next();
        if (next.done) target.close();
        else target.enqueue(encoder.encode(`${JSON.stringify(next.value)}\n`));
      },
      cancel: () => this.abort(),
    });
  }

  static fromReadableStream<T>(lines: ReadableStream<Uint8Array>): Stream<T> {
    const controller = new AbortController();
    return new Stream<T>(readLines(lines.getReader(), controller.signal), controller);
  }
}

export function openStream<T>(source: Source): Stream<T> {
  const { controller } = source.deadline;
  const left = (): void => {
    source.deadline.clear();
    source.ended(null, null);
  };
  controller.signal.addEventListener("abort", left, { once: true });
  return new Stream<T>(
    readEvents(source, () => controller.signal.removeEventListener("abort", left)),
    controller,
  );
}

async function* readEvents<T>(source: Source, begun: () => void): AsyncGenerator<T, void, undefined> {
  begun();
  const { first, reader, deadline, headers, ended } = source;
  const { controller } = deadline;
  const decoder = new EventDecoder();
  let usage: Record<string, unknown> | null = null;
  let problem: unknown = null;
  let whole = false;
  try {
    let bytes: Uint8Array | undefined = first;
    while (bytes && !whole) {
      for (const data of decoder.push(bytes)) {
        whole = data === "[DONE]";
        if (whole || controller.signal.aborted) break;
        const chunk = parse(data, source);
        if (isObject(chunk["usage"])) usage = chunk["usage"];
        yield chunk as T;
      }
      if (!whole) bytes = await read(reader, deadline);
    }
    if (!whole && decoder.end() !== "[DONE]") throw cut("it ended without [DONE]", headers);
  } catch (error) {
    if (deadline.left) return;
    problem = deadline.explain(error);
    const broken = problem instanceof APIConnectionError && !(problem instanceof APITimeoutError);
    if (broken && !(problem instanceof StreamCutError)) problem = cut((problem as Error).message, headers, error);
    throw problem;
  } finally {
    deadline.clear();
    ended(usage, problem);
    if (whole) void drain(reader, controller);
    else controller.abort();
  }
}

/** Undefined at the end. */
async function read(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  deadline: Deadline,
): Promise<Uint8Array | undefined> {
  deadline.controller.signal.throwIfAborted();
  deadline.start();
  try {
    return (await reader.read()).value;
  } finally {
    deadline.stop();
  }
}

/** Throws what the stream says went wrong. */
function parse(data: string, { headers, redact }: Source): Record<string, unknown> {
  let chunk: unknown;
  try {
    chunk = JSON.parse(data);
  } catch (cause) {
    throw new APIError("An event of the stream is not JSON.", { ...fields(headers), body: redact(data), cause });
  }
  if (!isObject(chunk)) {
    throw new APIError("An event of the stream is no object.", { ...fields(headers), body: redact(data) });
  }
  if (chunk["error"]) throw statusError(null, JSON.parse(redact(data)), { headers });
  return chunk;
}

function cut(why: string, headers: Headers, cause?: unknown): StreamCutError {
  return new StreamCutError(`The stream was cut: ${why}.`.replace("..", "."), { ...fields(headers), cause });
}

function fields(headers: Headers): { requestId: string | null; headers: Headers } {
  return { requestId: headers.get("x-request-id"), headers };
}

/** After [DONE] nothing but the end comes. Reading it lets the connection serve the next call. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>, controller: AbortController): Promise<void> {
  const timer = setTimeout(() => controller.abort(), DRAIN_MS);
  try {
    while (!(await reader.read()).done);
  } catch {
    // The answer was complete: how the connection ended is nobody's business.
  } finally {
    clearTimeout(timer);
  }
}

async function* readLines<T>(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const decoder = new TextDecoder();
  let rest = "";
  signal.addEventListener("abort", () => void reader.cancel(), { once: true });
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const lines = (rest + decoder.decode(next.value, { stream: true })).split("\n");
      rest = lines.pop() as string;
      for (const line of lines) if (line) yield JSON.parse(line) as T;
    }
    if (rest.trim()) yield JSON.parse(rest) as T;
  } finally {
    await reader.cancel();
  }
}
