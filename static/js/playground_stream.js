// One request to the data plane from this page, and its answer as it comes.

/** What went wrong, in the API's words. `status` 0: the site could not be reached. */
export class Failure extends Error {
  constructor(message, details = {}) {
    super(message);
    Object.assign(this, { status: 0, code: "", param: null, retryAfter: 0, resetAt: 0, requestId: "" }, details);
  }
}

// Server-sent events. Lines end with \n alone: splitting at U+2028 too would tear JSON apart. The decoder puts together
// characters whose bytes came in two parts.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

function failureOf(error, headers, status) {
  return new Failure(error.message, {
    status,
    code: error.code,
    param: error.param,
    requestId: error.request_id ?? "",
    retryAfter: Number(headers.get("Retry-After") ?? 0),
    resetAt: Number(headers.get("X-RateLimit-Reset-Month") ?? 0),
  });
}

async function refused(response) {
  try {
    const { error } = await response.json();
    return failureOf(error, response.headers, response.status);
  } catch {
    return new Failure(`The site answered ${response.status}. Try again.`, { status: response.status });
  }
}

/**
 * Sends `body` and calls `onText` with each piece of the answer. Resolves to what is known of it at its end, also when
 * it was stopped; throws Failure. `facts` is filled as things become known, so they are there whatever happens.
 */
export async function ask({ url, headers, body, signal, onText, facts }) {
  const began = performance.now();
  let response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
      signal,
    });
    facts.requestId = response.headers.get("X-Request-ID") ?? "";
    // What was refused before it was let in is only counted: there is no receipt of it.
    facts.recorded = response.headers.has("X-RateLimit-Limit") && response.status !== 429;
    if (!response.ok) throw await refused(response);
    facts.upstream = response.headers.get("X-HelixFlow-Upstream") ?? "";
    facts.fallback = response.headers.get("X-HelixFlow-Fallback-Model") ?? "";
    await read(response, began, onText, facts);
  } catch (error) {
    if (error.name === "AbortError") facts.stopped = true;
    else if (error instanceof Failure) throw error;
    else throw new Failure("The connection broke. What came so far is kept.");
  } finally {
    facts.totalMs = performance.now() - began;
  }
}

async function read(response, began, onText, facts) {
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw failureOf(chunk.error, response.headers, 0);
    if (chunk.usage) facts.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (choice?.finish_reason) facts.finish = choice.finish_reason;
    const text = choice?.delta?.content ?? choice?.delta?.refusal;
    if (!text) continue;
    facts.firstMs ??= performance.now() - began;
    onText(text);
  }
  throw new Failure("The answer broke off. What came so far is kept.");
}
