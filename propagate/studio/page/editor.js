/**
 * Changes of masks and objects. Each is one step that can be undone.
 * @import {ObjectInfo} from "./types.js"
 */

import { api } from "./api.js";
import { samplePixels, standingOut } from "./colours.js";
import { Draft } from "./draft.js";
import { changedIds, equal, idsIn, packRuns, touchedIds, unpackRuns } from "./shapes.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./masks.js").Masks} Masks */
/** @typedef {import("./history.js").History} History */
/** @typedef {import("./history.js").Step} Step */

export class Editor {
  /** The step that added an object for what is being painted. @type {Step|null} */
  #begun = null;
  /** Counts changes of the list of objects. */
  #turn = 0;

  /**
   * @param {Store} store
   * @param {Masks} masks
   * @param {History} history
   * @param {{
   *   goTo: (frame: number) => Promise<void>,
   *   redraw: () => void,
   *   bitmap: (frame: number) => ImageBitmap|null,
   *   info: (text: string) => void,
   *   failed: (error: unknown) => void,
   * }} page
   */
  constructor(store, masks, history, page) {
    this.store = store;
    this.masks = masks;
    this.history = history;
    this.page = page;
  }

  /** Ids that may not be painted over: locked ones, and with solo all others. */
  get kept() {
    const { locked, solo, active } = this.store.state;
    const kept = new Set(locked);
    if (solo) for (const { id } of this.store.project.objects) if (id !== solo) kept.add(id);
    kept.delete(0);
    if (!locked.has(active)) kept.delete(active);
    return kept;
  }

  /**
   * Begin to paint on the frame that is shown. Without an object, one is added.
   * @returns {Draft|null} null if the mask is not here yet, or the object may not be painted
   */
  begin() {
    const { frame, locked } = this.store.state;
    const before = this.masks.peek(frame);
    if (!before) return null;
    if (!this.store.state.active) {
      const { last } = this.history;
      this.addObject().catch(this.page.failed);
      this.#begun = this.history.last === last ? null : this.history.last;
    }
    const { active } = this.store.state;
    if (locked.has(active)) {
      this.page.info(`${this.nameOf(active)} is locked. Unlock it to paint it.`);
      return null;
    }
    return new Draft(frame, before, this.store.project.width, this.kept);
  }

  /**
   * Nothing came of what was begun: an object that was added for it goes away again.
   * @param {number} [waiting]  prompts that may wait for an answer; more of them may still fill it
   */
  giveUp(waiting = 0) {
    if (this.store.state.busy > waiting) return;
    const step = this.#begun;
    this.#begun = null;
    if (step && this.history.retract(step)) step.undo().catch(this.page.failed);
  }

  /** @param {number} id */
  nameOf(id) {
    return this.store.project.objects.find((object) => object.id === id)?.name ?? `Object ${id}`;
  }

  /**
   * What was painted becomes the reference of its frame. Of new objects it names just these, and the
   * run goes on finding the others by itself. Mending one that is named elsewhere makes it name all
   * that is seen: following then starts anew here, which forgets what was wrong.
   * @param {Draft} draft
   * @param {string} label
   * @param {{whole?: boolean, undone?: () => void, redone?: () => void}} [also]
   * @returns {boolean} whether anything changed
   */
  finish(draft, label, also = {}) {
    const { frame } = draft;
    const size = draft.ids.length;
    const before = this.masks.isReference(frame) ? this.#namedOn(frame) : null;
    const here = idsIn(draft.ids);
    const says = also.whole && here.some((id) => !before?.includes(id));
    if (!says && equal(draft.before, draft.ids)) {
      this.giveUp();
      return false;
    }
    this.#begun = null;
    const changed = changedIds(draft.before, draft.ids);
    const lost = changed.filter((id) => !here.includes(id));
    // New objects lie upon what the run finds. Anything else is said by all that is seen.
    const touched = touchedIds(draft.before, draft.ids);
    const isNew = !lost.length && touched.every((id) => !this.#isNamedBeside(id, frame));
    const meant = also.whole || !isNew ? here : here.filter((id) => touched.includes(id) || before?.includes(id));
    const others = meant.filter((id) => !changed.includes(id) && !before?.includes(id));
    if (others.length && !also.whole) {
      const names = others.map((id) => this.nameOf(id)).join(", ");
      this.page.info(`Frame ${frame} is now a reference of ${names} too: mend what else is wrong here.`);
    }
    const found = lost.filter((id) => !before?.includes(id));
    if (found.length && here.length) {
      const names = found.map((id) => this.nameOf(id)).join(", ");
      this.page.info(`${names}: no pixel is left on this frame. Follow looks for it here again.`);
    }
    const old = before && { runs: packRuns(draft.before), named: before };
    const now = { runs: packRuns(draft.ids), named: meant };
    this.#setReference(frame, { ids: draft.ids, named: meant });
    /** @type {(kept: {runs: Uint32Array, named: number[]}|null) => Promise<void>} */
    const put = async (kept) => {
      this.#setReference(frame, kept && { ids: unpackRuns(kept.runs, size), named: kept.named });
      if (kept) await this.page.goTo(frame);
      // The mask of the run shows again where the reference says nothing: the server must know first.
      await this.masks.flush();
      this.masks.refreshOne(frame);
      await this.page.goTo(frame);
    };
    this.history.push({
      label,
      bytes: now.runs.byteLength + (old?.runs.byteLength ?? 0),
      undo: async () => {
        await put(old);
        also.undone?.();
      },
      redo: async () => {
        await put(now);
        also.redone?.();
      },
    });
    return true;
  }

  /**
   * Whether a reference of another frame names an object.
   * @param {number} id
   * @param {number} frame
   */
  #isNamedBeside(id, frame) {
    return Object.entries(this.store.project.references).some(([other, ids]) => other !== String(frame) && ids.includes(id));
  }

  /** @param {number} frame */
  #namedOn(frame) {
    return this.store.project.references[String(frame)] ?? [];
  }

  /**
   * Set or delete a reference, and show it in the timeline before the server answers.
   * @param {number} frame
   * @param {import("./masks.js").Reference|null} reference
   */
  #setReference(frame, reference) {
    this.masks.setReference(frame, reference);
    const project = this.store.project;
    const references = { ...project.references };
    if (reference) references[String(frame)] = reference.named;
    else delete references[String(frame)];
    this.store.set({ project: { ...project, references } });
  }

  /** @param {number} frame */
  async deleteReference(frame) {
    if (!this.masks.isReference(frame)) return;
    const named = this.#namedOn(frame);
    const old = packRuns(await this.masks.get(frame));
    const size = this.store.project.width * this.store.project.height;
    /** @type {(runs: Uint32Array|null) => Promise<void>} */
    const put = async (runs) => {
      this.#setReference(frame, runs && { ids: unpackRuns(runs, size), named });
      await this.masks.flush();
      this.masks.refreshOne(frame);
      await this.page.goTo(frame);
    };
    await put(null);
    this.history.push({
      label: "Delete reference",
      bytes: old.byteLength,
      undo: () => put(old),
      redo: () => put(null),
    });
  }

  /**
   * @param {ObjectInfo[]} objects
   * @returns {Promise<void>}
   */
  async #setObjects(objects) {
    const { id } = this.store.project;
    this.#showObjects(objects);
    const turn = ++this.#turn;
    const project = await this.masks.inTurn(() => api.objects(id, objects));
    // An answer to what was changed again meanwhile says how it was.
    if (turn === this.#turn) this.masks.changed(project);
  }

  /** @param {ObjectInfo[]} objects */
  #showObjects(objects) {
    const { active, solo } = this.store.state;
    const has = (/** @type {number} */ id) => objects.some((object) => object.id === id);
    this.store.set({
      project: { ...this.store.project, objects },
      active: has(active) ? active : (objects.at(-1)?.id ?? 0),
      solo: has(solo) ? solo : 0,
    });
  }

  /**
   * @param {string} label
   * @param {ObjectInfo[]} objects
   */
  async #changeObjects(label, objects) {
    const before = this.store.project.objects;
    this.history.push({
      label,
      bytes: 0,
      undo: () => this.#setObjects(before),
      redo: () => this.#setObjects(objects),
    });
    await this.#setObjects(objects);
  }

  /** The next free id and the colour that stands out most here. @returns {ObjectInfo|null} */
  #nextObject() {
    const { objects } = this.store.project;
    for (let id = 1; id <= 254; id++) {
      if (objects.some((object) => object.id === id)) continue;
      const bitmap = this.page.bitmap(this.store.state.frame);
      const taken = objects.map(({ colour }) => colour);
      const colour = standingOut(bitmap ? samplePixels(bitmap) : [], taken);
      return { id, name: `object ${id}`, colour };
    }
    this.page.info("There are 254 objects, which is the most a mask can hold.");
    return null;
  }

  /** Add an object and choose it. */
  async addObject() {
    const object = this.#nextObject();
    if (!object) return;
    const objects = [...this.store.project.objects, object].sort((a, b) => a.id - b.id);
    const done = this.#changeObjects("Add object", objects);
    this.store.set({ active: object.id });
    await done;
  }

  /**
   * @param {number} id
   * @param {Partial<ObjectInfo>} change
   * @param {string} label
   */
  async changeObject(id, change, label) {
    const { objects } = this.store.project;
    const changed = objects.map((object) => (object.id === id ? { ...object, ...change } : object));
    await this.#changeObjects(label, changed);
  }

  /**
   * Delete an object, also from the references. Undo brings these back.
   * @param {number} id
   */
  async deleteObject(id) {
    await this.masks.flush();
    const project = this.store.project;
    const size = project.width * project.height;
    const before = project.objects;
    const after = before.filter((object) => object.id !== id);
    /** @type {Map<number, Uint32Array>} */
    const references = new Map();
    for (const [frame, ids] of Object.entries(project.references)) {
      if (!ids.includes(id)) continue;
      const mask = await api.mask(project.id, "references", Number(frame), `${project.revision}`);
      if (mask) references.set(Number(frame), packRuns(mask));
    }
    const remove = async () => {
      await this.#setObjects(after);
      this.masks.refresh();
      this.page.redraw();
    };
    await remove();
    this.history.push({
      label: "Delete object",
      bytes: [...references.values()].reduce((sum, runs) => sum + runs.byteLength, 0),
      undo: async () => {
        await this.#setObjects(before);
        for (const [frame, runs] of references) {
          const ids = unpackRuns(runs, size);
          this.#setReference(frame, { ids, named: idsIn(ids) });
        }
        await this.masks.flush();
        this.masks.refresh();
        this.store.set({ active: id });
        this.page.redraw();
      },
      redo: remove,
    });
  }

  /**
   * Exchange two ids in references and masks.
   * @param {number} a
   * @param {number} b
   * @param {[number, number]|null} frames  first and last; null: all
   */
  async swap(a, b, frames) {
    const swap = async () => {
      await this.masks.flush();
      const { id } = this.store.project;
      this.masks.changed(await this.masks.inTurn(() => api.swap(id, a, b, frames)));
      this.masks.refresh();
      this.store.set({ tracks: await api.timeline(id) });
      this.page.redraw();
    };
    await swap();
    this.history.push({ label: "Swap objects", bytes: 0, undo: swap, redo: swap });
  }

  /**
   * Take the mask of a file for the frame that is shown. Objects that it names are added.
   * @param {File} file
   */
  async importMask(file) {
    const { frame } = this.store.state;
    const project = this.store.project;
    const before = await this.masks.get(frame);
    const { ids, notes } = await api.importMask(project.id, frame, file);
    const known = new Set(project.objects.map(({ id }) => id));
    /** @type {ObjectInfo[]} */
    const added = [];
    const bitmap = this.page.bitmap(frame);
    const pixels = bitmap ? samplePixels(bitmap) : [];
    for (const id of idsIn(ids)) {
      if (known.has(id)) continue;
      const taken = [...project.objects, ...added].map(({ colour }) => colour);
      added.push({ id, name: `object ${id}`, colour: standingOut(pixels, taken) });
    }
    const draft = new Draft(frame, before, project.width, new Set());
    draft.ids = ids;
    const old = project.objects;
    const all = [...old, ...added].sort((m, n) => m.id - n.id);
    const { active } = this.store.state;
    if (added.length) await this.#setObjects(all);
    this.store.set({ active: active || (all[0]?.id ?? 0) });
    this.finish(draft, "Import mask", {
      whole: true,
      undone: () => added.length && void this.#setObjects(old),
      redone: () => added.length && void this.#setObjects(all),
    });
    if (notes) this.page.info(notes);
    this.page.redraw();
  }
}
