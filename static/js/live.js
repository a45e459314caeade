// [data-live="/address"] is fetched again when the organization's numbers change, and takes the answer's place; 204 keeps
// it. The WebSocket at [data-live-socket] says when; it says nothing else. Without it the page asks every 10 s, and in
// either case now and then, since minutes pass by themselves. A hidden tab does nothing (docs/live.md).
const QUIET_MS = 30_000; // between looks while the socket is open
const ALONE_MS = 10_000; // and without one
const PING_MS = 25_000;
const PONG_MS = 10_000;
const LONGEST_MS = 30_000;
const RESTARTED = 1012;
const WORDS = { live: "Live", polling: "Refreshed every 10 s" };

const place = document.querySelector("[data-live-socket]");
let socket = null;
let failures = 0;
let timers = {};
let fetching = false;
let again = false;

const parts = () => document.querySelectorAll("[data-live]:not([data-live=''])");
const wanted = () => !document.hidden && parts().length > 0;

function after(name, ms, act) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(act, ms);
}

function say(state) {
  for (const note of document.querySelectorAll("[data-live-state]")) {
    note.dataset.liveState = state;
    note.textContent = WORDS[state];
    note.hidden = false;
  }
}

// What somebody is marking with the pointer stays.
function marking(part) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && selection.containsNode(part, true);
}

async function renew(part) {
  const open = [...part.querySelectorAll("details")].map((each) => each.open);
  const { id } = part;
  await window.htmx.ajax("GET", part.dataset.live, { source: part, target: part, swap: "outerHTML" });
  const now = id ? document.getElementById(id) : null;
  if (!now || now === part) return;
  const details = [...now.querySelectorAll("details")];
  if (details.length === open.length) details.forEach((each, index) => (each.open = open[index]));
}

async function refresh() {
  again = fetching || !wanted() || !window.htmx;
  if (again) return;
  fetching = true;
  try {
    await Promise.allSettled([...parts()].filter((part) => !marking(part)).map(renew));
  } finally {
    fetching = false;
    after("look", socket?.readyState === WebSocket.OPEN ? QUIET_MS : ALONE_MS, refresh);
    if (again) refresh();
  }
}

function ping() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  socket.send("ping");
  after("pong", PONG_MS, drop); // a network that went away without a word
  after("ping", PING_MS, ping);
}

function drop() {
  const old = socket;
  socket = null;
  clearTimeout(timers.ping);
  clearTimeout(timers.pong);
  clearTimeout(timers.connect);
  if (!old) return;
  old.onopen = old.onmessage = old.onclose = null;
  old.close();
  retry();
}

function retry(code = 0) {
  if (!wanted()) return;
  say("polling");
  after("look", ALONE_MS, refresh);
  const most = code === RESTARTED && failures === 0 ? 3_000 : Math.min(LONGEST_MS, 1_000 * 2 ** failures);
  failures += 1;
  after("connect", most * (0.5 + Math.random() / 2), connect);
}

function connect() {
  if (socket || !place || !wanted()) return;
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + place.dataset.liveSocket);
  socket.onopen = () => {
    say("live");
    after("ping", PING_MS, ping);
    refresh(); // for what happened meanwhile
  };
  socket.onmessage = ({ data }) => {
    failures = 0;
    clearTimeout(timers.pong);
    if (data !== "pong") refresh();
  };
  socket.onclose = ({ code }) => {
    socket = null;
    clearTimeout(timers.ping);
    clearTimeout(timers.pong);
    retry(code);
  };
}

function begin() {
  if (!wanted()) return;
  if (place) connect();
  else say("polling");
  after("look", place ? QUIET_MS : ALONE_MS, refresh);
}

function rest() {
  Object.values(timers).forEach(clearTimeout);
  timers = {};
  drop();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return rest();
  failures = 0;
  begin();
  refresh();
});
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => {
  if (event.persisted) begin();
});
begin();
