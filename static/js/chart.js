// [data-chart]: pointing at its [data-plot], or the arrow keys there, shows a column's values. They come from the
// chart's own table, a row a column, so nothing is sent twice. Charts swapped in later: htmx, or prepare(element).
const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };

function rowsOf(chart) {
  return chart.querySelector("tbody")?.rows ?? [];
}

function line(chart, head, cell, slot) {
  const made = document.createElement("div");
  const name = head.textContent;
  if (slot) made.append(Object.assign(document.createElement("span"), { className: `swatch ${slot}` }));
  if (slot) made.append(Object.assign(document.createElement("span"), { textContent: name }));
  made.append(Object.assign(document.createElement("span"), { textContent: cell.textContent }));
  return made;
}

function fill(tip, chart, row) {
  const heads = chart.querySelectorAll("thead th");
  const slots = [...chart.querySelectorAll("path.chart__shape")].map((path) => path.classList[1]);
  const title = Object.assign(document.createElement("strong"), { textContent: row.cells[0].textContent });
  const lines = [...row.cells].slice(1).map((cell, index) => line(chart, heads[index + 1], cell, slots[index]));
  if (chart.matches(".chart--bars")) lines.reverse(); // as they stand: the first series is lowest
  tip.replaceChildren(title, ...lines);
}

function parts(plot) {
  const [band, tip] = ["chart__band", "chart__tip"].map((name) => {
    const found = plot.querySelector(`.${name}`);
    if (found) return found;
    const made = Object.assign(document.createElement("div"), { className: name, ariaHidden: "true" });
    plot.append(made);
    return made;
  });
  return { band, tip };
}

function show(plot, index) {
  const chart = plot.closest("[data-chart]");
  const rows = rowsOf(chart);
  const row = rows[index];
  if (!row) return;
  const { band, tip } = parts(plot);
  band.hidden = tip.hidden = false;
  if (plot.dataset.shown !== String(index)) fill(tip, chart, row);
  plot.dataset.shown = index;
  const width = plot.clientWidth / rows.length;
  band.style.left = `${index * width}px`;
  band.style.width = `${Math.max(1, width)}px`;
  const middle = (index + 0.5) * width;
  const beside = middle + width / 2 + 8;
  const left = beside + tip.offsetWidth > plot.clientWidth ? middle - width / 2 - 8 - tip.offsetWidth : beside;
  tip.style.left = `${Math.max(0, Math.min(left, plot.clientWidth - tip.offsetWidth))}px`;
  plot.setAttribute("aria-valuenow", index + 1);
  plot.setAttribute("aria-valuetext", [...row.cells].map(spoken(chart)).join(", "));
}

function spoken(chart) {
  const heads = chart.querySelectorAll("thead th");
  return (cell, index) => (index === 0 ? cell.textContent : `${heads[index].textContent} ${cell.textContent}`);
}

function hide(plot) {
  for (const part of plot.querySelectorAll(".chart__band, .chart__tip")) part.hidden = true;
}

function point(event) {
  const plot = event.target.closest?.("[data-plot]");
  for (const other of document.querySelectorAll("[data-plot][data-shown]")) {
    if (other !== plot && other !== document.activeElement) hide(other);
  }
  if (!plot) return;
  const box = plot.getBoundingClientRect();
  const count = rowsOf(plot.closest("[data-chart]")).length;
  show(plot, Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - box.left) / box.width) * count))));
}

// A slider is what screen readers let the arrow keys through to, and whose value they say.
export function prepare(root = document) {
  for (const chart of root.querySelectorAll("[data-chart]")) {
    const plot = chart.querySelector("[data-plot]:not([role])");
    const count = rowsOf(chart).length;
    if (!plot || !count) continue;
    const about = chart.querySelector("figcaption").textContent;
    plot.setAttribute("role", "slider");
    plot.setAttribute("aria-label", `${about}: read the values with the arrow keys`);
    plot.setAttribute("aria-valuemin", 1);
    plot.setAttribute("aria-valuemax", count);
    plot.setAttribute("aria-valuenow", count);
    plot.setAttribute("aria-valuetext", [...rowsOf(chart)[count - 1].cells].map(spoken(chart)).join(", "));
    plot.tabIndex = 0;
  }
}

document.addEventListener("pointermove", point, { passive: true });
document.addEventListener("pointerdown", point, { passive: true });

document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-plot]:focus-visible")) show(event.target, event.target.ariaValueNow - 1);
});

document.addEventListener("focusout", (event) => {
  if (event.target.matches("[data-plot]")) hide(event.target);
});

document.addEventListener("keydown", (event) => {
  if (!event.target.matches?.("[data-plot]")) return;
  const plot = event.target;
  const last = Number(plot.ariaValueMax) - 1;
  const now = plot.ariaValueNow - 1;
  const next = { Home: 0, End: last }[event.key] ?? (STEPS[event.key] && now + STEPS[event.key]);
  if (event.key === "Escape") hide(plot);
  if (next === undefined) return;
  event.preventDefault();
  show(plot, Math.max(0, Math.min(last, next)));
});

document.addEventListener("htmx:afterSwap", () => prepare());
prepare();
