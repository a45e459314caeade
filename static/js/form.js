// Forms: a busy button and no second sending, [data-autosubmit], and [data-reveal="id"] for passwords.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog") return;
  if (form.dataset.busy !== undefined) {
    event.preventDefault();
    return;
  }
  form.dataset.busy = "";
  const button = event.submitter ?? form.querySelector('button:not([type="button"])');
  button?.setAttribute("aria-busy", "true");
});

// The browser's back button shows the page as it was left, busy button included.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[data-busy]")) {
    delete form.dataset.busy;
    form.querySelector('[aria-busy="true"]')?.removeAttribute("aria-busy");
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-autosubmit]")) event.target.form.requestSubmit();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-reveal]");
  if (!button) return;
  const input = document.getElementById(button.dataset.reveal);
  const shown = input.type === "text";
  input.type = shown ? "password" : "text";
  button.setAttribute("aria-pressed", String(!shown));
});

document.querySelector("[data-focus]")?.focus();
