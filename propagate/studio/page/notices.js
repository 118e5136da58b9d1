/** Short lines that tell what went wrong, or what happened. */

import { ApiError } from "./api.js";
import { byId, iconButton, make } from "./dom.js";

const INFO_MS = 6000;

/** Where lines are shown: a dialog lies above all else. */
function place() {
  const dialog = document.querySelector("dialog[open] .notices");
  return dialog instanceof HTMLElement ? dialog : byId("notices", HTMLElement);
}

/**
 * Show a line. Errors stay until they are closed; what is harmless goes away by itself.
 * @param {string} text
 * @param {{hint?: string|null, error?: boolean}} [more]
 */
export function notice(text, { hint = null, error = false } = {}) {
  const list = place();
  const same = [...list.children].find((each) => each instanceof HTMLElement && each.dataset["text"] === text);
  same?.remove();
  // What is harmless gives way to the next line.
  if (!error) list.querySelector(".notice:not(.error, .progress)")?.remove();
  const line = make("div", { class: error ? "notice error" : "notice", role: error ? "alert" : "status" });
  line.dataset["text"] = text;
  const words = make("span", {}, make("strong", {}, text));
  if (hint) words.append(" ", hint);
  line.append(words, iconButton("close", "Close this message", () => line.remove()));
  list.append(line);
  while (list.querySelectorAll(".notice:not(.progress)").length > 3) list.querySelector(".notice:not(.progress)")?.remove();
  if (!error) setTimeout(() => line.remove(), INFO_MS);
}

/**
 * Show how far something is, in a line that stays until it ends.
 * @param {string} text
 * @returns {{say: (text: string) => void, end: () => void}}
 */
export function progress(text) {
  const words = make("strong", {}, text);
  const line = make("div", { class: "notice progress", role: "status" }, words);
  place().append(line);
  return {
    say: (now) => {
      if (words.textContent !== now) words.textContent = now;
    },
    end: () => line.remove(),
  };
}

/** @param {string} text */
export const info = (text) => notice(text);

/**
 * Show an error of any kind.
 * @param {unknown} error
 */
export function failed(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (error instanceof ApiError) notice(error.message, { hint: error.hint, error: true });
  else {
    console.error(error);
    notice(error instanceof Error ? error.message : String(error), { error: true });
  }
}
