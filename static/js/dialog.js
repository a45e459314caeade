// [data-dialog-open="id"] opens a <dialog> (a link's href stays the way without JavaScript); [data-dialog-close] closes
// it, and so does a click beside it. form[data-confirm="question"] asks first, naming what the button does.
function confirmDialog() {
  return document.getElementById("confirm");
}

function ask(form, submitter) {
  const dialog = confirmDialog();
  dialog.querySelector("h2").textContent = form.dataset.confirmTitle ?? "Are you sure?";
  dialog.querySelector("[data-question]").textContent = form.dataset.confirm;
  const yes = dialog.querySelector("[data-yes]");
  yes.textContent = form.dataset.confirmVerb ?? submitter?.textContent.trim() ?? "Continue";
  yes.onclick = () => {
    form.dataset.confirmed = "";
    dialog.close();
    form.requestSubmit(submitter);
  };
  dialog.showModal();
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog-open]");
  const dialog = opener && document.getElementById(opener.dataset.dialogOpen);
  if (dialog) {
    event.preventDefault();
    dialog.showModal();
    return;
  }
  const closer = event.target.closest("[data-dialog-close]");
  if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  } else if (event.target.matches("dialog[open]")) {
    event.target.close(); // the backdrop is the dialog itself; its contents are other elements
  }
});

// In the capture phase: the busy state of form.js must not start before the answer is yes.
document.addEventListener(
  "submit",
  (event) => {
    const form = event.target;
    if (!form.matches("form[data-confirm]")) return;
    if (form.dataset.confirmed !== undefined) {
      delete form.dataset.confirmed;
      return;
    }
    event.preventDefault();
    event.stopImmediatePropagation();
    ask(form, event.submitter);
  },
  true,
);

for (const dialog of document.querySelectorAll("dialog[data-open]")) dialog.showModal();
