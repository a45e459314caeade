// form[data-docs-search]: what is typed finds headings at once, and what stands below them. Without this the form leads
// to /docs/search, which ranks alike.
const MOST = 12;
let index;

function entries() {
  index ??= fetch("/docs/search.json").then((response) => (response.ok ? response.json() : []));
  return index;
}

function matches(all, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const has = (known) => words.every((word) => known.includes(word));
  const rank = ([title, , , known]) => (title.toLowerCase().startsWith(words[0]) ? 0 : has(known) ? 1 : 2);
  const found = all.filter(([, , , known, below]) => has(`${known} ${below}`));
  return found.sort((one, other) => rank(one) - rank(other)).slice(0, MOST);
}

function item([title, at, href]) {
  const link = document.createElement("a");
  link.href = href;
  link.textContent = title;
  const where = document.createElement("span");
  where.textContent = at;
  link.append(where);
  const li = document.createElement("li");
  li.append(link);
  return li;
}

function bind(form) {
  const input = form.querySelector("input");
  const list = form.querySelector("[data-found]");
  const close = () => {
    list.hidden = true;
  };
  input.addEventListener("focus", entries, { once: true });
  input.addEventListener("input", async () => {
    const found = matches(await entries(), input.value);
    list.replaceChildren(...found.map(item));
    list.hidden = !found.length;
  });
  form.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")];
    if (event.key === "Escape" && !list.hidden) {
      close();
      input.focus();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || list.hidden) return;
    event.preventDefault();
    const next = links.indexOf(document.activeElement) + step;
    (links[next] ?? input).focus();
  });
  form.addEventListener("focusout", (event) => {
    if (!form.contains(event.relatedTarget)) close();
  });
  list.addEventListener("click", close);
}

for (const form of document.querySelectorAll("form[data-docs-search]")) bind(form);

// A long menu shows where one is.
for (const menu of document.querySelectorAll(".guide__side")) {
  const current = menu.querySelector("[aria-current]");
  const below = current && current.getBoundingClientRect().bottom - menu.getBoundingClientRect().bottom;
  if (below > -160) menu.scrollTop += below + 160;
}
