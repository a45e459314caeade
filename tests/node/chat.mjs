// Drives HelixFlow with the official OpenAI client for Node, unmodified; prints what it saw as one JSON object.
import OpenAI from "openai";

const MODEL = "gpt-3.5-turbo";
const messages = [{ role: "user", content: "Say hello." }];
const client = new OpenAI({ maxRetries: 0 }); // OPENAI_BASE_URL and OPENAI_API_KEY
const seen = {};

const listed = [];
for await (const model of client.models.list()) listed.push(model.id);
seen.models = listed;
seen.model = await client.models.retrieve("gpt-4");
seen.completion = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 8, temperature: 0 });

const stream = await client.chat.completions.create({ model: MODEL, messages, max_tokens: 8, stream: true });
seen.chunks = [];
for await (const chunk of stream) seen.chunks.push(chunk);

const counted = await client.chat.completions.create({
  model: MODEL,
  messages,
  max_tokens: 8,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of counted) seen.last = chunk;

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param, id: error.requestID };
  }
}
seen.badKey = await failure(new OpenAI({ apiKey: "hflow_wrong", maxRetries: 0 }).models.list());
seen.unknownModel = await failure(client.chat.completions.create({ model: "gpt-99", messages }));
seen.badParameter = await failure(client.chat.completions.create({ model: MODEL, messages, temperature: 3 }));

console.log(JSON.stringify(seen));
