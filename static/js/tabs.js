// [data-tabs] holds a tablist and its panels. With data-tabs="language" the choice is remembered and all follow it.
function tabsOf(group) {
  return [...group.querySelectorAll('[role="tab"]')];
}

function select(group, chosen) {
  for (const tab of tabsOf(group)) {
    const is = tab === chosen;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !is;
  }
}

function remembered(name) {
  try {
    return localStorage.getItem(`tabs-${name}`);
  } catch {
    return null;
  }
}

function follow(name, value, except) {
  for (const group of document.querySelectorAll(`[data-tabs="${name}"]`)) {
    const tab = tabsOf(group).find((tab) => tab.dataset.value === value);
    if (tab && group !== except) select(group, tab);
  }
}

function choose(tab) {
  const group = tab.closest("[data-tabs]");
  const before = group.getBoundingClientRect().top;
  const name = group.dataset.tabs;
  select(group, tab);
  if (!name) return;
  try {
    localStorage.setItem(`tabs-${name}`, tab.dataset.value);
  } catch {
    // Not remembered, still shown.
  }
  follow(name, tab.dataset.value, group);
  // Groups above may have grown: keep the pressed tab where it was.
  window.scrollBy({ top: group.getBoundingClientRect().top - before, behavior: "instant" });
}

document.addEventListener("click", (event) => {
  const tab = event.target.closest('[data-tabs] [role="tab"]');
  if (tab) choose(tab);
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.('[data-tabs] [role="tab"]');
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!tab || !step) return;
  event.preventDefault();
  const tabs = tabsOf(tab.closest("[data-tabs]"));
  const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
  next.focus();
  choose(next);
});

for (const group of document.querySelectorAll("[data-tabs]")) {
  const value = remembered(group.dataset.tabs);
  const tab = tabsOf(group).find((tab) => tab.dataset.value === value);
  select(group, tab ?? group.querySelector('[aria-selected="true"]'));
  group.dataset.ready = "";
}
