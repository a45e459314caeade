// [data-theme-choice="system|light|dark"]: the remembered switch. theme.js applies it on the next page.
const root = document.documentElement;

function chosen() {
  return root.dataset.theme ?? "system";
}

function show() {
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === chosen()));
  }
}

function choose(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", theme);
  } catch {
    // Not remembered, still applied.
  }
  show();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-theme-choice]");
  if (button) choose(button.dataset.themeChoice);
});

window.addEventListener("storage", (event) => {
  if (event.key === "theme") choose(event.newValue ?? "system");
});

show();
