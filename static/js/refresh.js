// [data-stale] shows while a part that refreshes itself can't reach the server.
function mark(stale) {
  for (const note of document.querySelectorAll("[data-stale]")) note.hidden = !stale;
}

document.addEventListener("htmx:sendError", () => mark(true));
document.addEventListener("htmx:responseError", () => mark(true));
document.addEventListener("htmx:afterOnLoad", () => mark(false));

// A hidden tab asks nothing; looked at again, it asks at once (hx-trigger "…, visibilitychange from:document").
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches("[data-live]")) event.preventDefault();
});

// An answer from elsewhere (the login page, once the session is over) has no place inside this page.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, pathInfo } = event.detail;
  if (!xhr.responseURL) return;
  const asked = new URL(pathInfo.finalRequestPath, location.href).pathname;
  if (new URL(xhr.responseURL).pathname === asked) return;
  event.preventDefault();
  location.reload();
});
