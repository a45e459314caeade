// The playground's page: what is on it, and what its buttons do. The state is in playground_store.js.
import { part, showFacts, showFailure } from "./playground_answer.js";
import { coloured, program } from "./playground_code.js";
import { columns, DEFAULTS, nextBody, requestBody, Store } from "./playground_store.js";
import { ask, Failure } from "./playground_stream.js";
import { paint, Reader } from "./playground_text.js";

const COST_AFTER_MS = [1500, 2500, 5000, 10_000];
const NEAR_END_PX = 160;

const root = document.querySelector("[data-playground]");
const find = (name, within = root) => part(name, within);
const picks = [...root.querySelectorAll("[data-pick]")];
const known = [...picks[0].options].filter((option) => !option.disabled).map((option) => option.value);
const store = new Store(root.dataset.store, root.dataset.chosen, known);
const { state } = store;
const reader = new Reader(find("spoken"));
const running = new Map(); // answer → what stops it
let undo = null; // { turns, message }

function make(name) {
  return root.querySelector(`[data-template="${name}"]`).content.firstElementChild.cloneNode(true);
}

// What is shown

function showAnswer(turn, column) {
  const answer = turn.answers[column];
  const element = make("answer");
  element.dataset.column = column;
  element.setAttribute("aria-label", `Answer of ${answer.model}`);
  element.setAttribute("aria-busy", String(Boolean(answer.running)));
  find("model", element).textContent = answer.model;
  paint(find("body", element), answer.text);
  showFailure(element, answer);
  showFacts(element, answer);
  return element;
}

// A turn without an answer of a column (deleted, or of one model only) offers to get one.
function offer(column) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button button--small";
  button.dataset.do = "again";
  button.textContent = `Ask ${state.models[column]}`;
  const place = document.createElement("div");
  place.dataset.column = column;
  place.append(button);
  return place;
}

function showTurn(turn) {
  const element = make("turn");
  element.dataset.turn = turn.id;
  paint(find("body", element), turn.prompt);
  const shown = columns(state).map((column) => (turn.answers[column] ? showAnswer(turn, column) : offer(column)));
  find("answers", element).append(...shown);
  return element;
}

function show() {
  find("turns").replaceChildren(...state.turns.map(showTurn));
  find("empty").hidden = state.turns.length > 0;
  find("clear").hidden = state.turns.length === 0;
  find("undo").hidden = !undo;
  if (undo) find("message", find("undo")).textContent = undo.message;
  find("second").hidden = !state.compare;
  showRunning();
}

function showRunning() {
  const busy = running.size > 0;
  root.querySelector('[data-do="stop"]').hidden = !busy;
  find("send").hidden = busy;
}

function elementOf(turn, column) {
  return root.querySelector(`[data-turn="${turn.id}"] [data-column="${column}"]`);
}

function refresh(turn, column) {
  elementOf(turn, column)?.replaceWith(showAnswer(turn, column));
  showRunning();
}

function showSettings() {
  for (const pick of picks) pick.value = state.models[pick.dataset.pick];
  for (const field of root.querySelectorAll("[data-param]")) field.value = state.params[field.dataset.param];
  find("json").checked = state.params.json;
  find("compare").checked = state.compare;
  find("system").value = state.system;
  find("draft").value = state.draft;
}

function showProblem(name, message) {
  const field = root.querySelector(`[data-field="${name}"]`);
  const place = field && find("error", field);
  if (!place) return;
  place.textContent = message;
  place.hidden = !message;
  const input = find("param", field);
  if (message) {
    input.setAttribute("aria-invalid", "true");
    for (let around = field.closest("details"); around; around = around.parentElement.closest("details")) around.open = true;
  } else input.removeAttribute("aria-invalid");
}

// What is done

function remember(message) {
  undo = { turns: structuredClone(state.turns), message };
}

async function answer(turn, column) {
  const index = state.turns.indexOf(turn);
  const made = { text: "", model: state.models[column], running: true, facts: {} };
  const body = requestBody(state, column, index);
  turn.answers[column] = made;
  const stopper = new AbortController();
  running.set(made, stopper);
  const placed = elementOf(turn, column);
  if (placed) placed.replaceWith(showAnswer(turn, column));
  else show();
  showRunning();
  if (running.size === 1) reader.begin();
  await stream(turn, column, made, body, stopper.signal);
  running.delete(made);
  made.running = false;
  following(() => refresh(turn, column));
  store.save();
  reader.end(made.failure ? made.failure.message : `${made.model} has answered.`);
  if (made.facts.recorded) fetchCost(turn, column, made);
}

// What grows at the end of the page stays in sight, above the composer, unless somebody has scrolled up.
function following(change) {
  const atEnd = document.documentElement.scrollHeight - innerHeight - scrollY < NEAR_END_PX;
  change();
  if (atEnd) toEnd();
}

function toEnd() {
  scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

async function stream(turn, column, made, body, signal) {
  let waiting = false;
  const draw = () => {
    waiting = false;
    const element = elementOf(turn, column);
    if (!element || element.querySelector("form")) return;
    following(() => paint(find("body", element), made.text));
  };
  const onText = (text) => {
    made.text += text;
    if (!state.compare) reader.add(text);
    store.saveSoon();
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
  try {
    const headers = { "X-CSRFToken": root.dataset.csrf, "X-HelixFlow-Organization": root.dataset.organization };
    await ask({ url: root.dataset.url, headers, body, signal, onText, facts: made.facts });
    made.stopped = made.facts.stopped;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const { status, code, param, message, retryAfter } = error;
    made.failure = { status, code, message, until: retryAfter ? Date.now() + retryAfter * 1000 : 0 };
    if (param) showProblem(param.split(/[.[]/)[0], message);
  }
}

async function fetchCost(turn, column, made) {
  for (const delay of COST_AFTER_MS) {
    await new Promise((resolve) => setTimeout(resolve, delay));
    const response = await fetch(`${root.dataset.costs}?ids=${made.facts.requestId}`).catch(() => null);
    if (!response?.ok || response.redirected) return;
    const { costs } = await response.json();
    const found = costs[made.facts.requestId];
    if (!found) continue;
    made.cost = found.cost;
    const element = elementOf(turn, column);
    if (element && turn.answers[column] === made) following(() => showFacts(element, made));
    store.save();
    return;
  }
}

function settingsAreFine() {
  for (const { dataset } of root.querySelectorAll("[data-param]")) showProblem(dataset.param, "");
  const bad = [...root.querySelectorAll("[data-param]")].find((field) => field.validity.badInput);
  if (!bad) return true;
  showProblem(bad.dataset.param, "Enter a number.");
  bad.focus();
  return false;
}

function send() {
  const prompt = state.draft.trim();
  if (!prompt || running.size || !settingsAreFine()) return;
  const turn = { id: crypto.randomUUID?.() ?? String(Math.random()), prompt, answers: {} };
  state.turns.push(turn);
  state.draft = find("draft").value = "";
  undo = null;
  show();
  store.save();
  for (const column of columns(state)) answer(turn, column);
  toEnd();
}

function stop() {
  for (const stopper of running.values()) stopper.abort();
}

function again(turn, column) {
  if (running.has(turn.answers[column]) || !settingsAreFine()) return;
  if (turn.answers[column]?.text) remember("Another answer takes the place of the one before.");
  answer(turn, column);
  show();
}

function edit(element, text, save) {
  const body = find("body", element);
  const editor = make("editor");
  const area = editor.querySelector("textarea");
  area.value = text;
  body.replaceWith(editor);
  area.focus();
  editor.addEventListener("submit", (event) => {
    event.preventDefault();
    save(area.value);
    store.save();
    show();
  });
  editor.querySelector('[data-do="cancel"]').addEventListener("click", show);
}

function showCode(body) {
  for (const place of root.querySelectorAll("[data-program]")) {
    place.replaceChildren(coloured(program(place.dataset.program, body, root.dataset.base), place.dataset.program));
  }
  document.getElementById("playground-code").showModal();
}

async function copyAnswer(button, text) {
  await navigator.clipboard?.writeText(text);
  button.dataset.done = "";
  setTimeout(() => delete button.dataset.done, 1600);
}

function restore() {
  stop();
  state.turns = undo.turns;
  for (const { answers } of state.turns) for (const each of Object.values(answers)) each.running = false;
  undo = null;
  store.save();
  show();
}

const PAGE_ACTIONS = {
  stop,
  undo: restore,
  "next-code": () => showCode(nextBody(state, "a")),
  defaults: () => {
    state.params = { ...DEFAULTS };
    showSettings();
    settingsAreFine();
    store.save();
  },
};

const TURN_ACTIONS = {
  edit: (turn, column, element) => {
    const answered = turn.answers[column];
    if (running.has(answered)) return;
    if (answered) edit(element, answered.text, (text) => Object.assign(answered, { text, failure: undefined }));
    else edit(element, turn.prompt, (text) => Object.assign(turn, { prompt: text.trim() || turn.prompt }));
  },
  delete: (turn, column) => {
    remember("The message is deleted.");
    if (column) {
      running.get(turn.answers[column])?.abort();
      delete turn.answers[column];
    } else {
      for (const each of Object.values(turn.answers)) running.get(each)?.abort();
      state.turns.splice(state.turns.indexOf(turn), 1);
    }
    store.save();
    show();
  },
  again,
  code: (turn, column) => showCode(requestBody(state, column, state.turns.indexOf(turn))),
  copy: (turn, column, element, button) => copyAnswer(button, turn.answers[column].text),
};

root.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button) return;
  const holder = button.closest("[data-turn]");
  if (!holder) return PAGE_ACTIONS[button.dataset.do]?.();
  const turn = state.turns.find((each) => each.id === holder.dataset.turn);
  const column = button.closest("[data-column]")?.dataset.column;
  return TURN_ACTIONS[button.dataset.do]?.(turn, column, button.closest("section"), button);
});

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

// The question comes from dialog.js, which lets the form through once the answer is yes.
find("clear").addEventListener("submit", (event) => {
  event.preventDefault();
  stop();
  remember("The conversation is cleared.");
  state.turns = [];
  store.save();
  show();
});

root.addEventListener("input", ({ target }) => {
  const { dataset } = target;
  if (dataset.param) state.params[dataset.param] = target.value;
  else if (target === find("system")) state.system = target.value;
  else if (target === find("draft")) state.draft = target.value;
  else return;
  store.saveSoon();
});

root.addEventListener("change", ({ target }) => {
  if (target.dataset.pick) state.models[target.dataset.pick] = target.value;
  else if (target === find("compare")) state.compare = target.checked;
  else if (target === find("json")) state.params.json = target.checked;
  else return;
  store.save();
  if (!running.size) show();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === find("draft")) {
    event.preventDefault();
    send();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
});

addEventListener("pagehide", () => store.save());

// A link that names a model counts once: what is picked afterwards survives a reload.
if (new URLSearchParams(location.search).has("model")) {
  state.models.a = root.dataset.chosen;
  history.replaceState(null, "", location.pathname);
}
if (matchMedia("(width < 1100px)").matches) find("settings").open = false;
showSettings();
show();
