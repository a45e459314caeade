// `client.cjs helixflow|openai BASE_URL`: reads `calls N` and `streams N` from stdin, prints what they took as JSON.
const readline = require("node:readline");

const [name, baseURL] = process.argv.slice(2);
const { createRequire } = require("node:module");
const module_ = createRequire(process.cwd() + "/")(name);
const client = new (name === "openai" ? module_.OpenAI : module_.Client)({ apiKey: "bench", baseURL });
const request = { model: "gpt-3.5-turbo", messages: [{ role: "user", content: "Hello, world!" }] };

const work = {
  async calls(count) {
    for (let n = 0; n < count; n++) {
      if (!(await client.chat.completions.create(request)).choices[0].message.content) throw new Error("empty");
    }
    return count;
  },
  async streams(count) {
    let seen = 0;
    for (let n = 0; n < count; n++) {
      for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
        if (chunk.choices[0].delta.content !== "") seen++;
      }
    }
    return seen;
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [what, count] = line.split(" ");
    const wall = process.hrtime.bigint();
    const cpu = process.cpuUsage();
    const done = await work[what](Number(count));
    const { user, system } = process.cpuUsage(cpu);
    const spent = { done, wall_s: Number(process.hrtime.bigint() - wall) / 1e9, cpu_s: (user + system) / 1e6 };
    console.log(JSON.stringify(spent));
  }
})();
