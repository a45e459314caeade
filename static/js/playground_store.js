// The conversation and the settings, kept in this browser for one person in one organization.

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty"];
export const DEFAULTS = { temperature: "1", top_p: "", max_tokens: "1024", seed: "", frequency_penalty: "", presence_penalty: "", stop: "", json: false };

function fresh(model) {
  return { models: { a: model, b: "" }, compare: false, system: "", params: { ...DEFAULTS }, draft: "", turns: [] };
}

export class Store {
  /** `known` are the models that can be picked: one that has gone gives way to `model`. */
  constructor(key, model, known) {
    this.key = key;
    this.state = fresh(model);
    try {
      Object.assign(this.state, JSON.parse(localStorage.getItem(key) ?? "{}"));
    } catch {
      // Storage is forbidden, or holds something else: begin anew.
    }
    const { state } = this;
    state.params = { ...DEFAULTS, ...state.params };
    if (!known.includes(state.models.a)) state.models.a = model;
    if (!known.includes(state.models.b)) state.models.b = known.find((name) => name !== state.models.a) ?? model;
    for (const { answers } of state.turns) {
      for (const answer of Object.values(answers)) if (answer.running) Object.assign(answer, { running: false, stopped: true });
    }
  }

  save() {
    clearTimeout(this.timer);
    this.timer = undefined;
    if ("leaving" in document.documentElement.dataset) return; // logged out: nothing stays
    try {
      localStorage.setItem(this.key, JSON.stringify(this.state));
    } catch {
      // Full or forbidden: it stays on the page.
    }
  }

  saveSoon() {
    this.timer ??= setTimeout(() => this.save(), 500);
  }
}

/** The columns in use. */
export function columns(state) {
  return state.compare ? ["a", "b"] : ["a"];
}

/** The messages before the answer that `column` gives to turn number `index`, its prompt included. */
function messages(state, column, index, draft) {
  const found = state.system.trim() ? [{ role: "system", content: state.system }] : [];
  state.turns.slice(0, index + 1).forEach((turn, position) => {
    found.push({ role: "user", content: turn.prompt });
    const text = turn.answers[column]?.text;
    if (text && position < index) found.push({ role: "assistant", content: text });
  });
  if (draft) found.push({ role: "user", content: draft });
  return found;
}

/** The body of the request for one answer; with `draft`, of one that is still being written. */
export function requestBody(state, column, index, draft = "") {
  const body = { model: state.models[column], messages: messages(state, column, index, draft) };
  for (const name of NUMBERS) {
    const value = state.params[name].trim();
    if (value) body[name] = Number(value);
  }
  const stops = state.params.stop.split("\n").filter(Boolean);
  if (stops.length) body.stop = stops;
  if (state.params.json) body.response_format = { type: "json_object" };
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

/** What "View code" shows: the next request, or the last one while nothing is being written. */
export function nextBody(state, column) {
  const draft = state.draft.trim();
  const last = state.turns.length - 1;
  if (!draft && last >= 0) return requestBody(state, column, last);
  // The last answer is part of what the next request says.
  const body = requestBody(state, column, last, "");
  const text = state.turns[last]?.answers[column]?.text;
  if (text) body.messages.push({ role: "assistant", content: text });
  body.messages.push({ role: "user", content: draft || "Say hello in one line." });
  return body;
}
