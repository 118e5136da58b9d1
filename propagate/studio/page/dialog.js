/** Dialogs in the middle of the page. The browser keeps the focus inside and closes them with Escape. */

import { iconButton, make } from "./dom.js";

/**
 * Show a dialog and remove it when it closes.
 * @param {string} title
 * @param {(Node|string)[]} body
 * @param {string} [kind]  class
 * @returns {HTMLDialogElement}
 */
export function showDialog(title, body, kind = "") {
  for (const open of document.querySelectorAll("dialog")) open.close();
  const dialog = make("dialog", { class: kind, "aria-label": title });
  const close = iconButton("close", "Close", () => dialog.close());
  dialog.append(make("header", {}, make("h2", {}, title), close), ...body, make("div", { class: "notices" }));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * A small menu beside an element.
 * @param {HTMLElement} anchor
 * @param {(Node|string)[]} body
 * @returns {() => void} closes it
 */
export function showMenu(anchor, body) {
  const menu = make("div", { class: "menu", popover: "auto", role: "group" });
  menu.append(...body);
  document.body.append(menu);
  menu.addEventListener("toggle", (event) => {
    if (event instanceof ToggleEvent && event.newState === "closed") {
      menu.remove();
      if (document.activeElement === document.body) anchor.focus();
    }
  });
  menu.showPopover();
  const box = anchor.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(box.right - width, innerWidth - width - 8))}px`;
  const below = box.bottom + 4;
  menu.style.top = `${below + height > innerHeight - 8 ? Math.max(8, box.top - height - 4) : below}px`;
  menu.querySelector("button")?.focus();
  return () => menu.hidePopover();
}

/** Close what a command leaves behind: a menu is about what is there now. */
export function closeMenus() {
  for (const menu of document.querySelectorAll(".menu")) if (menu instanceof HTMLElement) menu.hidePopover();
}
