// [data-stale] shows while a part that refreshes itself can't reach the server.
function mark(stale) {
  for (const note of document.querySelectorAll("[data-stale]")) note.hidden = !stale;
}

document.addEventListener("htmx:sendError", () => mark(true));
document.addEventListener("htmx:responseError", () => mark(true));
document.addEventListener("htmx:afterOnLoad", () => mark(false));
