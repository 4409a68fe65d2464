// Keys that work anywhere on the page, and the dialog that lists them.

import { keep, recall } from "./choices.js";

const $ = (id) => document.getElementById(id);

/**
 * Listens for single letters and Escape.
 *
 * @param {Record<string, () => void>} actions by key: a small letter, "?" or "Escape"
 */
export function listenForShortcuts(actions) {
  const dialog = $("shortcuts");
  const single = $("single-keys");
  // Speech input types letters; who uses it can turn them off (WCAG 2.1.4).
  single.checked = recall("single-keys") !== "off";
  single.addEventListener("change", () => keep("single-keys", single.checked ? "on" : "off"));
  $("shortcuts-button").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.querySelector("dialog[open]") || takesLetters(event.target)) return;
    if (event.key === "?") dialog.showModal();
    else if (event.key === "Escape") actions.Escape();
    else if (single.checked && Object.hasOwn(actions, event.key.toLowerCase())) {
      actions[event.key.toLowerCase()]();
    } else return;
    event.preventDefault();
  });
}

/** Whether a letter means something to the element that has the focus. */
function takesLetters(element) {
  if (element.matches("select, textarea, [contenteditable]")) return true;
  return element.matches("input:not([type=radio], [type=checkbox], [type=range], [type=file])");
}
