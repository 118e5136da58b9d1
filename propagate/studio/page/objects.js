/**
 * The panel of objects: choose, rename, colour, show alone, lock, swap, delete.
 * @import {ObjectInfo} from "./types.js"
 */

import { VIVID } from "./colours.js";
import { showDialog, showMenu } from "./dialog.js";
import { byId, iconButton, make } from "./dom.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./editor.js").Editor} Editor */

export class ObjectsPanel {
  /**
   * @param {HTMLElement} list
   * @param {Store} store
   * @param {Editor} editor
   * @param {(error: unknown) => void} failed
   */
  constructor(list, store, editor, failed) {
    this.list = list;
    this.store = store;
    this.editor = editor;
    this.failed = failed;
    let shown = "";
    store.watch(["project", "active", "locked", "solo", "tracks", "frame"], ({ project, active, locked, solo }) => {
      const key = JSON.stringify([project?.objects, active, [...locked], solo, project?.id]);
      if (key !== shown) this.#show(project?.objects ?? []);
      shown = key;
      this.#showStates();
    });
  }

  /** @param {Promise<unknown>} work */
  #try(work) {
    work.catch(this.failed);
  }

  /** @param {ObjectInfo[]} objects */
  #show(objects) {
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset["focus"] : null;
    this.list.replaceChildren(...objects.map((object) => this.#row(object)));
    if (!objects.length) {
      this.list.append(make("p", { class: "soft empty" }, "Objects appear here. Paint on the picture to add the first one."));
    }
    if (focused) {
      const again = this.list.querySelector(`[data-focus="${focused}"]`);
      if (again instanceof HTMLElement) again.focus();
    }
    this.list.querySelector(".object.active")?.scrollIntoView({ block: "nearest" });
  }

  /** What the run found of each object on this frame. */
  #showStates() {
    const { tracks, frame, project } = this.store.state;
    const words = { t: "", u: "unsure", a: "absent" };
    for (const { id } of project?.objects ?? []) {
      const place = this.list.querySelector(`[data-state="${id}"]`);
      const state = tracks[String(id)]?.state[frame];
      if (place) place.textContent = state ? words[state] : "";
    }
  }

  /** @param {ObjectInfo} object */
  #row({ id, name, colour }) {
    const { active, locked, solo } = this.store.state;
    const row = make("div", { class: "object", "data-id": String(id) });
    row.classList.toggle("active", id === active);

    const swatch = make("button", { type: "button", class: "swatch", "aria-label": `Colour of ${name}`, title: "Colour", "data-focus": `colour${id}` });
    swatch.style.background = colour;
    swatch.addEventListener("click", () => this.#chooseColour(swatch, id, colour));

    const choose = make("button", { type: "button", class: "choose", title: "Double-click to rename", "data-focus": `choose${id}` });
    choose.append(make("span", { class: "name" }, name), make("span", { class: "state", "data-state": String(id) }));
    if (id === active) choose.setAttribute("aria-current", "true");
    choose.addEventListener("click", () => this.store.set({ active: id }));
    choose.addEventListener("dblclick", () => this.rename(id));

    const number = make("span", { class: "number", title: `Id ${id} in the masks` }, String(id));
    const alone = iconButton("solo", solo === id ? "Show all objects (O)" : "Show only this object (O)", () => this.toggleSolo(id));
    alone.setAttribute("aria-pressed", String(solo === id));
    alone.dataset["focus"] = `solo${id}`;
    const isLocked = locked.has(id);
    const lock = iconButton(isLocked ? "lock" : "unlock", isLocked ? "Unlock (L)" : "Lock: no tool changes it (L)", () => this.toggleLock(id));
    lock.setAttribute("aria-pressed", String(isLocked));
    lock.dataset["focus"] = `lock${id}`;
    const more = iconButton("more", `More for ${name}`, () => this.#showMore(more, id));
    more.dataset["focus"] = `more${id}`;
    row.append(swatch, choose, number, alone, lock, more);
    return row;
  }

  /** @param {number} id */
  toggleSolo(id) {
    const { solo } = this.store.state;
    this.store.set(solo === id ? { solo: 0 } : { solo: id, active: id });
  }

  /** @param {number} id */
  toggleLock(id) {
    const locked = new Set(this.store.state.locked);
    if (!locked.delete(id)) locked.add(id);
    this.store.set({ locked });
  }

  /** @param {number} id */
  rename(id) {
    const place = this.list.querySelector(`[data-id="${id}"] .choose`);
    const object = this.store.state.project?.objects.find((each) => each.id === id);
    if (!place || !object) return;
    const input = make("input", { class: "rename", "aria-label": "Name", maxlength: "60" });
    input.value = object.name;
    // Afterwards the keys go on where they were: in this list, or else on the picture.
    const inList = this.list.contains(document.activeElement);
    let done = false;
    /** @type {(keep: boolean, byKey: boolean) => void} */
    const finish = (keep, byKey) => {
      if (done) return;
      done = true;
      const name = input.value.trim();
      input.replaceWith(place);
      const back = inList ? place : byId("overlay", HTMLElement);
      if (byKey && back instanceof HTMLElement) back.focus();
      if (keep && name && name !== object.name) this.#try(this.editor.changeObject(id, { name }, "Rename"));
    };
    input.addEventListener("blur", () => finish(true, false));
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") finish(true, true);
      if (event.key === "Escape") finish(false, true);
    });
    place.replaceWith(input);
    input.focus();
    input.select();
  }

  /**
   * @param {HTMLElement} anchor
   * @param {number} id
   * @param {string} colour
   */
  #chooseColour(anchor, id, colour) {
    /** @param {string} chosen */
    const take = (chosen) => {
      close();
      if (chosen !== colour) this.#try(this.editor.changeObject(id, { colour: chosen }, "Colour"));
    };
    const grid = make("div", { class: "colours" });
    for (const each of VIVID) {
      const button = make("button", { type: "button", class: "swatch", "aria-label": each });
      button.style.background = each;
      if (each === colour) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => take(each));
      grid.append(button);
    }
    const input = make("input", { type: "color", value: colour });
    input.addEventListener("change", () => take(input.value));
    const close = showMenu(anchor, [grid, make("label", { class: "check" }, input, "Another colour")]);
  }

  /**
   * @param {HTMLElement} anchor
   * @param {number} id
   */
  #showMore(anchor, id) {
    /** @type {(label: string, act: () => void) => HTMLButtonElement} */
    const item = (label, act) => {
      const button = make("button", { type: "button" }, label);
      button.addEventListener("click", () => {
        close();
        act();
      });
      return button;
    };
    const items = [item("Rename (F2)", () => this.rename(id))];
    if (this.store.project.objects.length > 1) items.push(item("Swap with another object …", () => this.showSwap(id)));
    const remove = item("Delete", () => this.#try(this.editor.deleteObject(id)));
    remove.classList.add("danger");
    const close = showMenu(anchor, [...items, remove]);
  }

  /** @param {number} id */
  showSwap(id) {
    const { project, frame } = this.store.state;
    if (!project) return;
    const name = this.editor.nameOf(id);
    const other = make("select", { "aria-label": "Other object" });
    for (const each of project.objects) {
      if (each.id !== id) other.append(make("option", { value: String(each.id) }, `${each.id}  ${each.name}`));
    }
    const last = Math.max(0, project.frame_count - 1);
    /** @param {number} value */
    const number = (value) => make("input", { type: "number", min: "0", max: String(last), value: String(value) });
    const [from, to] = [number(frame), number(last)];
    /** @type {(value: string, on: boolean, ...words: (Node|string)[]) => HTMLLabelElement} */
    const radio = (value, on, ...words) => {
      const input = make("input", { type: "radio", name: "range", value });
      input.checked = on;
      return make("label", { class: "check" }, input, ...words);
    };
    const some = make("span", { class: "range" }, "frames ", from, " to ", to);
    const go = make("button", { type: "submit", class: "primary" }, "Swap");
    const form = make(
      "form", {},
      make("p", {}, `Each becomes the other, in masks and references: ${name} and`), other,
      make("fieldset", {}, radio("some", true, some), radio("all", false, "the whole video")),
      make("footer", {}, go),
    );
    const dialog = showDialog("Swap two objects", [form]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const all = new FormData(form).get("range") === "all";
      dialog.close();
      this.#try(this.editor.swap(id, Number(other.value), all ? null : [Number(from.value), Number(to.value)]));
    });
    other.focus();
  }
}
