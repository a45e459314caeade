// Compiled, never run: the types as an ES module sees them.
import HelixFlow, { Client, RateLimitError, Stream, webhooks } from "helixflow";
import type { ChatCompletion, ChatCompletionChunk, EmbeddingList, Message } from "helixflow";

const client = new Client({ onAttempt: ({ status, usage }) => console.log(status, usage?.["total_tokens"]) });
const messages: Message[] = [{ role: "user", content: [{ type: "text", text: "Hi" }] }];

const answer: ChatCompletion = await client.chat.completions.create({ model: "gpt-4", messages, temperature: 0.7 });
const content: string | null | undefined = answer.choices[0]?.message.content;
const later: unknown = answer["a_field_of_tomorrow"];
messages.push(answer.choices[0]!.message, { role: "user", content: "And?" });

const streamed = client.chat.completions.create({ model: "any", messages, stream: true });
const stream: Stream<ChatCompletionChunk> = await streamed;
for await (const chunk of stream) console.log(chunk.choices[0]?.delta.content);

const wanted: boolean = Math.random() > 0.5;
const either = await client.chat.completions.create({ model: "gpt-4", messages, stream: wanted });
if (either instanceof Stream) either.abort();
else console.log(either.usage?.total_tokens);

// @ts-expect-error a typo is no parameter
void client.chat.completions.create({ model: "gpt-4", messages, temprature: 1 });
// @ts-expect-error messages are missing
void client.chat.completions.create({ model: "gpt-4" });

const vectors: number[] = (await client.embeddings.create({ model: "gpt-4", input: "Hi" })).data[0]!.embedding;
const packed = await client.embeddings.create({ model: "gpt-4", input: "Hi", encoding_format: "base64" });
const text: string = packed.data[0]!.embedding;
for await (const model of client.models.list()) console.log(model.id.length);

const onProgress = (batch: HelixFlow.Batch): void => console.log(batch.request_counts.total);
const results = await client.batch.process([{ model: "gpt-4", messages }], { onProgress });
const first: string | null = results[0]!.unwrap().choices[0]!.message.content;
for (const result of results) console.log(result.ok ? result.response.choices[0] : result.error.code);
console.log(results.failed[0]?.error.message, results.succeeded[0]?.response.id);
const embedded = await client.batch.process([{ model: "gpt-4", input: "Hi" }], { endpoint: "/v1/embeddings" });
const list: EmbeddingList | null | undefined = embedded[0]?.response;
console.log(list?.data[0]?.embedding[0]?.toFixed(), results.batch.id, content, later, vectors, text, first);

const event = await webhooks.verify("{}", new Headers(), ["whsec_a", "whsec_b"], { tolerance: 60 });
const shown = (error: unknown): number | null => (error instanceof RateLimitError ? error.retryAfter : null);
const other: HelixFlow.Client = new HelixFlow.Client();
console.log(event.event, shown(null), (await other.usage.retrieve()).month.remaining);
