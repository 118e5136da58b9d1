/** Keys of the page, and the sheet that lists them. */

import { closeMenus, showDialog } from "./dialog.js";
import { make } from "./dom.js";

/**
 * `keys` are as in `nameOf`; the first is shown. Without a group it is not in the sheet.
 * @typedef {{keys: string[], what: string, group: string, act: () => void}} Shortcut
 */

/**
 * The name of a key with its modifiers: "Ctrl+Shift+z", "n", "ArrowLeft". Shift counts only for
 * letters and for keys without a character.
 * @param {KeyboardEvent} event
 */
export function nameOf(event) {
  const letter = event.key.length === 1;
  const cased = letter && event.key.toLowerCase() !== event.key.toUpperCase();
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.altKey) parts.push("Alt");
  if (event.shiftKey && (!letter || cased)) parts.push("Shift");
  parts.push(cased ? event.key.toLowerCase() : event.key);
  return parts.join("+");
}

/**
 * Listen to the keys of the page, where no text is typed and no dialog is open.
 * @param {Shortcut[]} shortcuts
 * @param {(failure: unknown) => void} failed
 */
export function listenToKeys(shortcuts, failed) {
  const acts = new Map(shortcuts.flatMap(({ keys, act }) => keys.map((key) => [key, act])));
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    if (target instanceof HTMLInputElement && !["range", "checkbox", "radio"].includes(target.type)) return;
    if (target instanceof HTMLSelectElement) return;
    const name = nameOf(event);
    // Buttons keep their keys, sliders their arrows.
    if (target instanceof HTMLButtonElement && (name === "Enter" || name === " ")) return;
    if (target instanceof HTMLInputElement && name.startsWith("Arrow")) return;
    const act = acts.get(name);
    if (!act) return;
    event.preventDefault();
    closeMenus();
    try {
      act();
    } catch (error) {
      failed(error);
    }
  });
}

const SHOWN = new Map([
  ["ArrowLeft", "←"], ["ArrowRight", "→"], ["ArrowUp", "↑"], ["ArrowDown", "↓"], [" ", "Space"], ["Escape", "Esc"],
]);

/**
 * @param {string} key
 * @returns {HTMLElement}
 */
function keyCaps(key) {
  const caps = make("span", { class: "caps" });
  const parts = key === "+" ? ["+"] : key.split("+");
  for (const part of parts) {
    const text = SHOWN.get(part) ?? (part.length === 1 ? part.toUpperCase() : part);
    caps.append(make("kbd", {}, text));
  }
  return caps;
}

/** What is done without the keyboard. */
const POINTER = [
  ["Wheel, pinch", "zoom around the pointer"],
  ["Middle button, two fingers", "move the picture"],
  ["Space and drag", "move the picture"],
  ["Right button, Alt", "take away instead of adding"],
  ["Shift and box", "fill the box itself"],
];

/** @param {Shortcut[]} shortcuts */
export function showSheet(shortcuts) {
  const groups = [...new Set(shortcuts.map(({ group }) => group))].filter(Boolean);
  const sections = groups.map((group) => {
    const list = make("dl", {});
    for (const { keys, what } of shortcuts.filter((each) => each.group === group)) {
      list.append(make("dt", {}, keyCaps(keys[0] ?? "")), make("dd", {}, what));
    }
    return make("section", {}, make("h3", {}, group), list);
  });
  const list = make("dl", {});
  for (const [how, what] of POINTER) {
    list.append(make("dt", {}, how ?? ""), make("dd", {}, what ?? ""));
  }
  sections.push(make("section", {}, make("h3", {}, "Mouse, pen and touch"), list));
  showDialog("Keys", [make("div", { class: "sheet" }, ...sections)], "sheet-dialog");
}
