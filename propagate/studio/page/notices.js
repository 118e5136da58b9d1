/** Short lines that tell what went wrong, or what happened. */

import { ApiError } from "./api.js";
import { byId, iconButton, make } from "./dom.js";

const INFO_MS = 6000;

/**
 * Show a line. Errors stay until they are closed; what is harmless goes away by itself.
 * @param {string} text
 * @param {{hint?: string|null, error?: boolean}} [more]
 */
export function notice(text, { hint = null, error = false } = {}) {
  const list = byId("notices", HTMLElement);
  const same = [...list.children].find((each) => each instanceof HTMLElement && each.dataset["text"] === text);
  same?.remove();
  // What is harmless gives way to the next line.
  if (!error) list.querySelector(".notice:not(.error)")?.remove();
  const line = make("div", { class: error ? "notice error" : "notice", role: error ? "alert" : "status" });
  line.dataset["text"] = text;
  const words = make("span", {}, make("strong", {}, text));
  if (hint) words.append(" ", hint);
  line.append(words, iconButton("close", "Close this message", () => line.remove()));
  list.append(line);
  while (list.children.length > 3) list.firstElementChild?.remove();
  if (!error) setTimeout(() => line.remove(), INFO_MS);
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
