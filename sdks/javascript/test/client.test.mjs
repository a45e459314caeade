// What the contract doesn't tell: what belongs to JavaScript alone. No server: `fetch` is a function here.
import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import HelixFlow, { APIConnectionError, Client, HelixFlowError, Stream } from "helixflow";

const KEY = "hflow_key_of_the_tests";
const CHUNK = { id: "c", choices: [{ index: 0, delta: { content: "Hé" } }] };
const QUESTION = { model: "gpt-4", messages: [{ role: "user", content: "Hi" }] };

/** A client whose requests are answered by `answer(request number, url, init)`. */
function clientOf(answer, options = {}) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push({ url, init });
    return answer(asked.length, url, init);
  };
  const client = new Client({ apiKey: KEY, baseURL: "http://api.test/v1/", fetch, sleep: async () => {}, ...options });
  return { client, asked };
}

const json = (value, init) => Response.json(value, { headers: { "x-request-id": "req_1" }, ...init });

/** A stream of server-sent events that goes on until it is left; `left` tells. */
function endless(signal, left) {
  const body = new ReadableStream({
    start: (target) => signal.addEventListener("abort", () => target.error(signal.reason)),
    pull: (target) => target.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(CHUNK)}\n\n`)),
    cancel: () => left?.(),
  });
  signal.addEventListener("abort", () => left?.());
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

const failure = (promise) => promise.then(() => assert.fail("it succeeded"), (error) => error);

test("a client never shows its key", () => {
  const { client } = clientOf(() => json({}));
  const shown = [inspect(client, { depth: 9, showHidden: true }), JSON.stringify(client), String(client)];
  assert.ok(!shown.join().includes(KEY));
});

test("settings that can't be are refused without repeating the key", () => {
  const secret = "hflow_secret\nkey";
  for (const options of [
    { apiKey: secret },
    { apiKey: " " },
    { apiKey: KEY, baseURL: `http://user:${KEY}@api.test` },
    { apiKey: KEY, baseURL: "nowhere" },
    { apiKey: KEY, maxRetries: -1 },
    { apiKey: KEY, timeout: 0 },
  ]) {
    assert.throws(() => new Client(options), (error) => {
      return error instanceof HelixFlowError && !/secret|hflow_key/.test(inspect(error));
    });
  }
});

test("the environment gives key and base URL", async () => {
  process.env.HELIXFLOW_API_KEY = `${KEY}\n`;
  process.env.HELIXFLOW_BASE_URL = "http://env.test/v1";
  try {
    const urls = [];
    const client = new Client({
      fetch: async (url, { headers }) => {
        urls.push([url, headers.get("authorization")]);
        return json({});
      },
    });
    await client.health();
    assert.deepEqual(urls, [["http://env.test/v1/health", `Bearer ${KEY}`]]);
  } finally {
    delete process.env.HELIXFLOW_API_KEY;
    delete process.env.HELIXFLOW_BASE_URL;
  }
});

test("a web page must say that it wants its key read, and there needs no process", async () => {
  const { process: kept } = globalThis;
  globalThis.window = { document: {} };
  delete globalThis.process;
  try {
    assert.throws(() => new Client({ apiKey: KEY }), /allowBrowser/);
    const { client, asked } = clientOf(() => json({ data: [] }), { allowBrowser: true });
    await client.models.list();
    assert.equal(asked[0].init.headers.has("user-agent"), false);
  } finally {
    globalThis.process = kept;
    delete globalThis.window;
  }
});

test("withOptions keeps the rest", async () => {
  const { client, asked } = clientOf(() => json({}));
  await client.withOptions({ defaultHeaders: { "X-Team": "docs" } }).models.retrieve("a/b");
  assert.equal(asked[0].url, "http://api.test/v1/models/a%2Fb");
  assert.equal(asked[0].init.headers.get("authorization"), `Bearer ${KEY}`);
  assert.equal(asked[0].init.headers.get("x-team"), "docs");
});

test("a header that none can be is a mistake, not a failed connection", async () => {
  const { client, asked } = clientOf(() => json({}));
  const error = await failure(client.models.list({ headers: { "X-Team": "a\nb" } }));
  assert.ok(error instanceof TypeError);
  assert.equal(asked.length, 0);
});

test("withResponse has the headers, and every answer its request id", async () => {
  const { client } = clientOf(() => json({ id: "gpt-4" }));
  const { data, response, request_id } = await client.models.retrieve("gpt-4").withResponse();
  assert.deepEqual([data.id, data._request_id, request_id, response.status], ["gpt-4", "req_1", "req_1", 200]);
  assert.deepEqual(Object.keys(data), ["id"]);
});

test("lists go on over their pages", async () => {
  const { client, asked } = clientOf((n) => json({ data: [{ id: `${n}` }], has_more: n % 2 === 1, last_id: `${n}` }));
  const seen = [];
  for await (const batch of client.batches.list({ limit: 1 })) seen.push(batch.id);
  const page = await client.batches.list();
  for await (const batch of page) seen.push(batch.id);
  assert.deepEqual(seen, ["1", "2", "3", "4"]);
  assert.deepEqual(asked.map(({ url }) => url.split("?")[1]), ["limit=1", "limit=1&after=1", undefined, "after=3"]);

  const { client: other } = clientOf((n) => json({ data: [n], meta: { next_cursor: n < 3 ? `c${n}` : null } }));
  const requests = [];
  for await (const request of other.requests.list({ since: new Date(0) })) requests.push(request);
  assert.deepEqual(requests, [1, 2, 3]);
});

test("a signal ends a call, its waiting and its stream with the signal's reason", async () => {
  const hanging = (_n, _url, { signal }) =>
    new Promise((_, fail) => signal.addEventListener("abort", () => fail(new DOMException("x", "AbortError"))));
  const one = new AbortController();
  const asking = clientOf(hanging).client.models.list({ signal: one.signal });
  one.abort(new Error("enough"));
  assert.equal((await failure(asking)).message, "enough");

  const two = new AbortController();
  const busy = clientOf(() => json({}, { status: 503 }), { sleep: undefined });
  const waiting = failure(busy.client.models.list({ signal: two.signal }));
  setTimeout(() => two.abort(new Error("enough")), 20);
  assert.equal((await waiting).message, "enough");

  const three = new AbortController();
  const { client } = clientOf((_n, _url, { signal }) => endless(signal));
  const stream = await client.chat.completions.create({ ...QUESTION, stream: true }, { signal: three.signal });
  const error = await failure(
    (async () => {
      for await (const chunk of stream) three.abort(new Error(chunk.choices[0].delta.content));
    })(),
  );
  assert.equal(error.message, "Hé");
});

test("any number of calls may share a signal", async () => {
  const warnings = [];
  const warn = (warning) => warnings.push(warning);
  process.on("warning", warn);
  const { client } = clientOf(async () => json({ data: [] }));
  const { signal } = new AbortController();
  await Promise.all(Array.from({ length: 30 }, () => client.models.list({ signal })));
  await new Promise((done) => setImmediate(done));
  process.off("warning", warn);
  assert.deepEqual(warnings, []);
});

test("a stream that is aborted or left is closed, and its loop just ends", async () => {
  for (const leave of [(stream) => stream.abort(), (stream) => stream.controller.abort(), () => "break"]) {
    const attempts = [];
    let left = 0;
    const { client } = clientOf((_n, _url, { signal }) => endless(signal, () => left++), {
      onAttempt: (attempt) => attempts.push(attempt),
    });
    const stream = await client.chat.completions.create({ ...QUESTION, stream: true });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3 && leave(stream) === "break") break;
    assert.equal(chunks, 3);
    assert.ok(left > 0);
    assert.deepEqual(attempts.map(({ status, error, streamed }) => [status, error, streamed]), [[200, null, true]]);
    assert.throws(() => stream[Symbol.asyncIterator](), /only once/);
  }
});

test("a stream's text alone, and leaving that closes it too", async () => {
  let left = 0;
  const { client } = clientOf((_n, _url, { signal }) => endless(signal, () => left++));
  const stream = await client.chat.completions.create({ ...QUESTION, stream: true });
  let text = "";
  for await (const piece of stream.text()) if ((text += piece).length === 4) break;
  assert.equal(text, "HéHé");
  assert.ok(left > 0);
});

test("a stream is handed on as lines, and leaving those closes it too", async () => {
  let left = 0;
  const { client } = clientOf((_n, _url, { signal }) => endless(signal, () => left++));
  const stream = await client.chat.completions.create({ ...QUESTION, stream: true });
  const seen = [];
  for await (const chunk of Stream.fromReadableStream(stream.toReadableStream())) {
    seen.push(chunk);
    if (seen.length === 2) break;
  }
  assert.deepEqual(seen, [CHUNK, CHUNK]);
  assert.ok(left > 0);
});

test("what the cache gives can be changed without harm, and can be left out", async () => {
  const { client, asked } = clientOf((n) => json({ n }), { cache: { maxEntries: 2, ttl: 60_000 } });
  const turned = { messages: QUESTION.messages, model: QUESTION.model };
  const first = await client.chat.completions.create(QUESTION);
  first.n = 100;
  assert.equal((await client.chat.completions.create(turned)).n, 1);
  assert.equal((await client.chat.completions.create(QUESTION, { cache: false })).n, 2);
  assert.equal(asked.length, 2);
});

test("a hook that throws breaks nothing", async () => {
  const { client } = clientOf(() => json({ data: [] }), {
    onAttempt: () => {
      throw new Error("mine");
    },
  });
  assert.deepEqual((await client.models.list()).data, []);
});

test("files are texts, bytes, blobs or streams", async () => {
  const forms = [];
  const { client } = clientOf((_n, _url, { body }) => (forms.push(body), json({ id: "file-1" })));
  async function* pieces() {
    yield "te";
    yield new TextEncoder().encode("xt");
  }
  const files = ["text", new TextEncoder().encode("text"), new Blob(["text"]), pieces()];
  for (const file of files) await client.files.create({ file, purpose: "batch", filename: "x.jsonl" });
  await client.files.create({ file: Object.assign(pieces(), { path: "/tmp/y.jsonl" }), purpose: "batch" });
  for (const form of forms) assert.equal(await form.get("file").text(), "text");
  assert.deepEqual(forms.map((form) => form.get("file").name), [...Array(4).fill("x.jsonl"), "y.jsonl"]);
});

test("waiting for a batch outlasts an outage, up to its timeout, and says which batch it was", async () => {
  const batch = { id: "batch_1", status: "in_progress", request_counts: { total: 1, completed: 0, failed: 0 } };
  const { client } = clientOf((n) => {
    if (n === 1) return json(batch);
    if (n < 20) throw new TypeError("fetch failed", { cause: { code: "ECONNREFUSED" } });
    return n === 20 ? json({ ...batch, status: "completed" }) : json({ data: [], has_more: false });
  });
  const results = await client.batch.process([QUESTION], { onProgress: false });
  assert.deepEqual([results.batch.status, results.length], ["completed", 0]);
  assert.ok(!(results.map((each) => each) instanceof HelixFlow.BatchResults));

  const revoked = clientOf((n) => (n === 1 ? json(batch) : json({}, { status: 401 }))).client;
  assert.equal((await failure(revoked.batch.process([QUESTION], { onProgress: false }))).batchId, "batch_1");

  const error = await failure(clientOf(() => json(batch)).client.batch.wait("batch_1", { timeout: 60_000 }));
  assert.ok(error instanceof HelixFlow.BatchTimeoutError && !(error instanceof APIConnectionError));
  assert.deepEqual([error.batchId, error.batch.status], ["batch_1", "in_progress"]);
});

test("an API that doesn't answer keeps nobody beyond the time to wait for a batch", async () => {
  const { client, asked } = clientOf((_, url, { signal }) => new Promise((_done, fail) => signal.addEventListener("abort", fail)));
  const error = await failure(client.batch.wait("batch_1", { timeout: 1 }));
  assert.ok(error instanceof HelixFlow.BatchTimeoutError);
  assert.ok(asked.length <= 2); // one look, and no tries of it
});

test("what is too large for one call in bytes, though not in letters, goes through a file", async () => {
  const { client, asked } = clientOf(() => json({ id: "batch_1", status: "completed", data: [], has_more: false }));
  const wide = { ...QUESTION, messages: [{ role: "user", content: "語".repeat(3_000_000) }] };
  await client.batch.process([wide], { onProgress: false });
  assert.ok(asked[0].url.endsWith("/files"));
});

test("an id can't lead out of its path", async () => {
  const { client, asked } = clientOf(() => json({}));
  for (const id of ["", ".", ".."]) assert.throws(() => client.batches.retrieve(id), HelixFlowError);
  await client.batches.retrieve("../files");
  assert.equal(asked[0].url, "http://api.test/v1/batches/..%2Ffiles");
});
