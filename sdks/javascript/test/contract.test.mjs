// Runs the cases of sdks/contract against its server (HELIXFLOW_CONTRACT_URL): see the README there.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { inspect } from "node:util";
import * as helixflow from "helixflow";

const { APIError, BatchResults, Client, Stream, WebhookVerificationError } = helixflow;

const SERVER = process.env.HELIXFLOW_CONTRACT_URL;
const KEY = "hflow_contract_key_that_opens_nothing";
const RUN = `javascript-${randomUUID()}`;
const FASTER = 100;
const folder = new URL("../../contract/", import.meta.url);

const CALLS = {
  "chat.completions.create": (client, params, options) => client.chat.completions.create(params, options),
  "completions.create": (client, params, options) => client.completions.create(params, options),
  "embeddings.create": (client, params, options) => client.embeddings.create(params, options),
  "models.list": (client, _, options) => client.models.list(options),
  "models.retrieve": (client, { model }, options) => client.models.retrieve(model, options),
  "files.create": (client, { file, purpose }, options) =>
    client.files.create({ file: file.text, filename: file.filename, purpose }, options),
  "files.list": (client, params, options) => client.files.list(params, options),
  "files.retrieve": (client, { file_id }, options) => client.files.retrieve(file_id, options),
  "files.delete": (client, { file_id }, options) => client.files.delete(file_id, options),
  "files.content": async (client, { file_id }, options) => ({
    text: await (await client.files.content(file_id, options)).text(),
  }),
  "batches.create": (client, params, options) => client.batches.create(params, options),
  "batches.list": (client, params, options) => client.batches.list(params, options),
  "batches.retrieve": (client, { batch_id }, options) => client.batches.retrieve(batch_id, options),
  "batches.cancel": (client, { batch_id }, options) => client.batches.cancel(batch_id, options),
  "batches.retry": (client, { batch_id }, options) => client.batches.retry(batch_id, options),
  "batches.results": (client, { batch_id, ...query }, options) => client.batches.results(batch_id, query, options),
  "batch.process": async (client, { requests, ...rest }, options) => {
    let looks = 0;
    const results = await client.batch.process(requests, { ...rest, ...options, onProgress: () => void looks++ });
    assert.ok(looks > 0, "no progress was told");
    return results;
  },
  "batch.wait": (client, { batch_id }, options) => client.batch.wait(batch_id, options),
  "batch.results": (client, { batch_id }, options) => client.batch.results(batch_id, options),
  "usage.retrieve": (client, _, options) => client.usage.retrieve(options),
  "usage.timeseries": (client, params, options) => client.usage.timeseries(params, options),
  "requests.list": (client, params, options) => client.requests.list(params, options),
  "requests.retrieve": (client, { request_id }, options) => client.requests.retrieve(request_id, options),
  health: (client, _, options) => client.health(options),
};

function expand(value) {
  if (Array.isArray(value)) return value.map(expand);
  if (typeof value !== "object" || value === null) return value;
  if ("$repeat" in value) {
    const first = value.from ?? 1;
    return Array.from({ length: value.$repeat }, (_, at) =>
      JSON.parse(JSON.stringify(value.each).replaceAll("{n}", String(first + at))),
    );
  }
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, expand(inner)]));
}

const ms = (seconds) => (seconds === undefined ? undefined : seconds * 1000);

function given(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}

function clientOf({ name, client = {} }, waits, attempts) {
  const { api_key = KEY, max_retries, timeout_s, default_headers, cache } = client;
  return new Client(
    given({
      apiKey: api_key,
      baseURL: `${SERVER}/${RUN}/${name}/v1`,
      maxRetries: max_retries,
      timeout: ms(timeout_s),
      defaultHeaders: default_headers,
      cache: cache && given({ maxEntries: cache.max_entries, ttl: ms(cache.ttl_s) }),
      onAttempt: (attempt) => void attempts.push(attempt),
      sleep: (wanted) => {
        waits.push(wanted / 1000);
        return new Promise((done) => setTimeout(done, wanted / FASTER));
      },
    }),
  );
}

async function carryOut({ call }, client, chunks) {
  const { idempotency_key, timeout_s, max_retries, headers } = call.options ?? {};
  const options = given({ idempotencyKey: idempotency_key, timeout: ms(timeout_s), maxRetries: max_retries, headers });
  const result = await CALLS[call.method](client, expand(call.params ?? {}), options);
  if (!(result instanceof Stream)) return result;
  for await (const chunk of result) {
    chunks.push(chunk);
    if (chunks.length === call.leave_after) break;
  }
  return chunks;
}

function at(value, path) {
  return path.split(".").reduce((inner, name) => inner?.[name], value) ?? null;
}

function same(found, wanted, what) {
  if (typeof wanted === "string" && wanted.startsWith("^")) assert.match(String(found), new RegExp(wanted, "s"), what);
  else if (Array.isArray(wanted) && typeof found === "number") {
    assert.ok(wanted[0] <= found && found <= wanted[1], `${what} is ${found}, not within ${wanted}`);
  } else assert.deepEqual(found, wanted, what);
}

function picked(value, { pick = {}, length = {} }) {
  for (const [path, wanted] of Object.entries(pick)) assert.deepEqual(at(value, path), wanted, path);
  for (const [path, wanted] of Object.entries(length)) assert.equal(at(value, path)?.length, wanted, `${path}.length`);
}

function onTheWire({ code, status, message, requestId, details, param, retryAfter }) {
  return { code, status, message, request_id: requestId, details, param, retry_after: retryAfter };
}

function compare({ outcome }, { result, error, chunks, waits, attempts }) {
  if (outcome.error) {
    const { type, after_chunks, ...fields } = outcome.error;
    assert.ok(error, "there was no error");
    assert.ok(error instanceof APIError && error instanceof helixflow[type], `${error?.stack} is no ${type}`);
    const found = onTheWire(error);
    for (const [name, wanted] of Object.entries(fields)) same(found[name], wanted, name);
    if (after_chunks !== undefined) assert.equal(chunks.length, after_chunks, "chunks before the error");
  } else if (error) throw error;
  if (outcome.result) picked(result, outcome.result);
  if (outcome.chunks) {
    const { count, text, ...picks } = outcome.chunks;
    if (count !== undefined) assert.equal(chunks.length, count);
    const texts = chunks.map((chunk) => chunk.choices?.[0]?.delta?.content ?? chunk.choices?.[0]?.text ?? "");
    if (text !== undefined) assert.equal(texts.join(""), text);
    picked(chunks, picks);
  }
  if (outcome.results) {
    const { count, succeeded, failed, ...picks } = outcome.results;
    assert.ok(result instanceof BatchResults);
    if (count !== undefined) assert.equal(result.length, count);
    if (succeeded !== undefined) assert.equal(result.succeeded.length, succeeded);
    if (failed !== undefined) assert.equal(result.failed.length, failed);
    picked(result.map((each) => ({ ...each, error: each.error && onTheWire(each.error) })), picks);
  }
  if (outcome.waits) {
    assert.equal(waits.length, outcome.waits.length, `waits ${waits}`);
    outcome.waits.forEach((wanted, index) => same(waits[index], wanted, `waits[${index}]`));
  }
  if (outcome.attempts) {
    assert.equal(attempts.length, outcome.attempts.length, inspect(attempts));
    outcome.attempts.forEach((wanted, index) => {
      const told = attempts[index];
      const found = { ...told, path: told.path.replace(/^.*(?=\/v1\/)/, ""), request_id: told.requestId };
      for (const [name, value] of Object.entries(wanted)) {
        assert.deepEqual(found[name], value, `attempts[${index}].${name}`);
      }
    });
  }
}

const cases = readdirSync(new URL("cases/", folder)).filter((name) => name.endsWith(".json"));

describe("contract", { concurrency: 16 }, () => {
  for (const file of cases) {
    const one = JSON.parse(readFileSync(new URL(`cases/${file}`, folder), "utf8"));
    test(one.name, { timeout: 20_000 }, async () => {
      const waits = [];
      const attempts = [];
      const chunks = [];
      const client = clientOf(one, waits, attempts);
      let result, error;
      try {
        for (let time = 0; time < (one.call.times ?? 1); time++) {
          chunks.length = 0;
          result = await carryOut(one, client, chunks);
        }
      } catch (caught) {
        error = caught;
      }
      compare(one, { result, error, chunks, waits, attempts });
      const key = one.client?.api_key ?? KEY;
      const printed = inspect([client, error, attempts, error?.body], { depth: 10, showHidden: true });
      const told = [printed, String(error), error?.stack, JSON.stringify([client, error, attempts])];
      assert.ok(!told.join().includes(key), "the key was printed");
      const verdict = await (await fetch(`${SERVER}/${RUN}/${one.name}/verdict`)).json();
      assert.deepEqual(verdict.complaints, []);
    });
  }
});

describe("signatures", () => {
  for (const one of JSON.parse(readFileSync(new URL("signatures.json", folder), "utf8"))) {
    test(one.name, async () => {
      const payload = one.payload ?? Buffer.from(one.payload_base64, "base64");
      if (one.helper) {
        assert.equal(await helixflow.verifyWebhookSignature(payload, one.signature, one.secret), one.valid);
        return;
      }
      const check = (headers) => {
        return helixflow.webhooks.verify(payload, headers, one.secrets, { now: one.now, tolerance: one.tolerance_s });
      };
      for (const headers of [one.headers, new Headers(one.headers)]) {
        if (one.valid) {
          const { id, event, timestamp, data } = await check(headers);
          assert.deepEqual({ id, event, timestamp, data }, one.event);
        } else {
          const error = await check(headers).then(() => null, (caught) => caught);
          assert.ok(error instanceof WebhookVerificationError, `${error}`);
          assert.equal(error.reason, one.reason);
        }
      }
    });
  }
});
