// Whoever logs out leaves no conversation of the playground in the browser, which may not be theirs alone.
document.addEventListener("submit", ({ target }) => {
  if (new URL(target.action).pathname !== "/logout") return;
  document.documentElement.dataset.leaving = ""; // an open playground saves when it is left (playground_store.js)
  try {
    for (const key of Object.keys(localStorage)) if (key.startsWith("playground:")) localStorage.removeItem(key);
  } catch {
    // Storage is forbidden: there is nothing in it.
  }
});
