// A request as a program: curl, Python, JavaScript, Go. The key is read from the environment.

const KEYWORDS = {
  curl: /^curl\b|(?<=\s)-[A-Za-z](?=\s)/,
  python: /\b(?:import|from|for|in|if|or|print|True|False|None)\b/,
  javascript: /\b(?:import|from|const|for|await|of|new|true|false|null)\b/,
  go: /\b(?:package|import|func|for|if|var|struct|string|continue|nil|range|defer)\b/,
};
const COMMENTS = { curl: /^#.*$/, python: /#.*$/, javascript: /\/\/.*$/, go: /\/\/.*$/ };
const STRINGS = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\])*'|`[^`]*`/;


// JSON's strings are strings of Python and JavaScript too.
function literal(value, words, name, indent = 0) {
  if (value === true || value === false || value === null) return words[String(value)];
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = " ".repeat(indent + words.step);
  const parts = Array.isArray(value)
    ? value.map((each) => literal(each, words, name, indent + words.step))
    : Object.entries(value).map(([key, each]) => `${name(key)}: ${literal(each, words, name, indent + words.step)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const short = `${open}${parts.join(", ")}${close}`;
  if (short.length < 72 && !short.includes("\n")) return short;
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${" ".repeat(indent)}${close}`;
}

const PYTHON = { true: "True", false: "False", null: "None", step: 4 };
const JAVASCRIPT = { true: "true", false: "false", null: "null", step: 2 };

function curl(body, base) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `# -N shows each chunk as it comes
curl -N ${base}/chat/completions \\
  -H "Authorization: Bearer $HELIXFLOW_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${json}'`;
}

function python(body, base) {
  const fields = Object.entries(body).map(
    ([name, value]) => `    ${name}=${literal(value, PYTHON, (key) => JSON.stringify(key), 4)},\n`,
  );
  return `import os

from openai import OpenAI  # pip install openai

client = OpenAI(
    base_url="${base}",
    api_key=os.environ["HELIXFLOW_API_KEY"],
)

stream = client.chat.completions.create(
${fields.join("")})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)`;
}

function javascript(body, base) {
  return `import OpenAI from "openai"; // npm install openai

const client = new OpenAI({
  baseURL: "${base}",
  apiKey: process.env.HELIXFLOW_API_KEY,
});

const stream = await client.chat.completions.create(${literal(body, JAVASCRIPT, (key) => key)});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
}`;
}

function go(body, base) {
  // A raw string holds everything but the backtick itself.
  const json = JSON.stringify(body, null, "\t").replaceAll("`", '` + "`" + `');
  return `package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := \`${json.replaceAll("\n", "\n\t")}\`
	request, err := http.NewRequest("POST", "${base}/chat/completions", strings.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("HELIXFLOW_API_KEY"))
	request.Header.Set("Content-Type", "application/json")

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found || data == "[DONE]" {
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string \`json:"content"\`
				} \`json:"delta"\`
			} \`json:"choices"\`
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			log.Fatal(err)
		}
		if len(chunk.Choices) > 0 {
			fmt.Print(chunk.Choices[0].Delta.Content)
		}
	}
}`;
}

const PROGRAMS = { curl, python, javascript, go };

/** `body` as it is sent, `base` up to /v1. */
export function program(language, body, base) {
  return PROGRAMS[language](body, base);
}

/** The same colours as on other pages, as elements. */
export function coloured(text, language) {
  const tokens = new RegExp(
    `(?<c>${COMMENTS[language].source})|(?<s>${STRINGS.source})|(?<k>${KEYWORDS[language].source})`,
    "gm",
  );
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(tokens)) {
    parts.append(text.slice(end, match.index));
    const token = document.createElement("span");
    token.className = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
    token.textContent = match[0];
    parts.append(token);
    end = match.index + match[0].length;
  }
  parts.append(text.slice(end));
  return parts;
}
