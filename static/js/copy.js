// [data-copy="text"], or [data-copy-from="id"] for the text of another element.
import { announce } from "./toast.js";

const DONE_MS = 1600;

// http sites other than localhost have no clipboard API.
function copyOldWay(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("copying is not possible here");
}

async function copy(text) {
  if (!navigator.clipboard) return copyOldWay(text);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text);
  }
}

function source(button) {
  if (button.dataset.copy !== undefined) return button.dataset.copy;
  const element = document.getElementById(button.dataset.copyFrom);
  const panel = element.querySelector('[role="tabpanel"]:not([hidden]) code') ?? element;
  return panel.textContent.replace(/\n+$/, "");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  const label = button.querySelector("[data-label]");
  try {
    await copy(source(button));
  } catch {
    announce("Copying is not possible here. Select the text and copy it by hand.");
    return;
  }
  button.dataset.done = "";
  if (label) label.textContent = "Copied";
  announce("Copied to the clipboard.");
  setTimeout(() => {
    delete button.dataset.done;
    if (label) label.textContent = label.dataset.label;
  }, DONE_MS);
});
