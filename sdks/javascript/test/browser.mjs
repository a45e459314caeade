// Runs in a web page that serves the package at /esm/ and an endless stream at /v1: tells /seen what happened.
import { Client } from "/esm/index.js";

async function walk() {
  const settings = { apiKey: "hflow_for_everybody", baseURL: `${location.origin}/v1` };
  let refusal = "";
  try {
    new Client(settings);
  } catch (error) {
    refusal = error.message;
  }
  const client = new Client({ ...settings, allowBrowser: true });
  const stream = await client.chat.completions.create({ model: "m", messages: [], stream: true });
  let text = "";
  for await (const chunk of stream) {
    text += chunk.choices[0].delta.content;
    if (text.length >= 6) break;
  }
  return { refusal, text };
}

const seen = await walk().catch((error) => ({ error: String(error) }));
await fetch("/seen", { method: "POST", body: JSON.stringify(seen) });
