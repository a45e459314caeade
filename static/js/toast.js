// Toasts: Django's messages are there when the page comes; success and info leave by themselves, errors stay.
const STAY_MS = 6000;

function region() {
  return document.getElementById("toasts");
}

function leaveLater(toast) {
  if (toast.matches(".toast--error, .toast--warning")) return;
  const leave = () => {
    // Someone is reading or about to press the button: wait for them.
    if (toast.matches(":hover, :focus-within")) setTimeout(leave, STAY_MS);
    else toast.remove();
  };
  setTimeout(leave, STAY_MS);
}

document.addEventListener("click", (event) => {
  event.target.closest("[data-toast-close]")?.closest(".toast").remove();
});

for (const toast of document.querySelectorAll(".toast")) leaveLater(toast);

/** Show a message made in the browser. kind: success, info, warning or error. */
export function toast(message, kind = "info") {
  const made = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
  made.classList.add(`toast--${kind}`);
  made.querySelector("[data-message]").textContent = message;
  region().append(made);
  leaveLater(made);
}

/** Say something to screen readers only. */
export function announce(message) {
  const live = document.getElementById("announcer");
  live.textContent = "";
  requestAnimationFrame(() => {
    live.textContent = message;
  });
}
