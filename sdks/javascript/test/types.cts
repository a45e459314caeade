// Compiled, never run: the types as CommonJS sees them.
import HelixFlow = require("helixflow");

const client: HelixFlow.Client = new HelixFlow.Client({ apiKey: "…" });
const params: HelixFlow.ChatCompletionParams = { model: "gpt-4", messages: [{ role: "user", content: "Hi" }] };
client.chat.completions.create(params).then(
  (answer: HelixFlow.ChatCompletion) => console.log(answer.choices[0]?.message.content),
  (error: unknown) => console.log(error instanceof HelixFlow.APIError && error.requestId),
);
