/**
 * The mask of each frame: what the run computed, what a person painted, and saving the latter.
 * @import {Project, Saving} from "./types.js"
 */

import { api } from "./api.js";
import { layered } from "./shapes.js";

const SAVE_AFTER_MS = 300;
const MOST_BYTES = 192 * 2 ** 20;

/** @typedef {Uint8Array<ArrayBuffer>} Ids */

/**
 * @param {[number, number][]} ranges
 * @param {number} frame
 */
export function within(ranges, frame) {
  return ranges.some(([first, last]) => first <= frame && frame <= last);
}

export class Masks {
  /** Masks as they are shown, least recently used first. @type {Map<number, Ids>} */
  #shown = new Map();
  /** References that wait to be saved; null: to be deleted. @type {Map<number, Ids|null>} */
  #unsaved = new Map();
  #timer = 0;
  #queue = Promise.resolve();
  /** Counts what changes masks, all or one, so that an answer that comes too late is dropped. */
  #age = 0;
  /** @type {Map<number, number>} */
  #ages = new Map();
  /** The latest revision of masks by frame, from events. @type {Map<number, number>} */
  #revisions = new Map();

  /**
   * @param {() => Project} project
   * @param {(project: Project) => void} changed  called with each answer of the server
   * @param {(saving: Saving) => void} saving
   * @param {(error: unknown) => void} failed
   */
  constructor(project, changed, saving, failed) {
    this.project = project;
    this.changed = changed;
    this.saving = saving;
    this.failed = failed;
  }

  /**
   * The mask that is shown on a frame. Do not write into it.
   * @param {number} frame
   * @returns {Promise<Ids>}
   */
  async get(frame) {
    for (;;) {
      const kept = this.peek(frame);
      if (kept) return kept;
      const age = this.#ageOf(frame);
      const ids = await this.#load(frame);
      if (age !== this.#ageOf(frame)) continue;
      this.#keep(frame, ids);
      return ids;
    }
  }

  /**
   * @param {number} frame
   * @returns {Ids|null}
   */
  peek(frame) {
    const ids = this.#shown.get(frame);
    if (!ids) return null;
    this.#shown.delete(frame);
    this.#shown.set(frame, ids);
    return ids;
  }

  /**
   * Whether a person gave a mask for this frame, saved or not.
   * @param {number} frame
   */
  isReference(frame) {
    const unsaved = this.#unsaved.get(frame);
    if (unsaved !== undefined) return unsaved !== null;
    return String(frame) in this.project().references;
  }

  /**
   * Make a mask the reference of its frame, or with null, delete the reference. It is saved soon.
   * @param {number} frame
   * @param {Ids|null} ids  nobody writes into it afterwards
   */
  setReference(frame, ids) {
    this.#unsaved.set(frame, ids);
    this.#grow(frame);
    if (ids) this.#keep(frame, ids);
    else this.#shown.delete(frame);
    this.saving("unsaved");
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => void this.flush().catch(this.failed), SAVE_AFTER_MS);
  }

  /**
   * Save everything now.
   * @returns {Promise<void>} when it is saved
   */
  flush() {
    clearTimeout(this.#timer);
    return this.inTurn(async () => {
      if (!this.#unsaved.size) return;
      this.saving("saving");
      try {
        for (const [frame, ids] of [...this.#unsaved]) {
          const { id } = this.project();
          const answer = ids
            ? await api.saveReference(id, frame, ids)
            : await api.deleteReference(id, frame);
          // It may have changed again while it was sent.
          if (this.#unsaved.get(frame) === ids) this.#unsaved.delete(frame);
          this.changed(answer);
        }
      } catch (error) {
        this.saving("failed");
        throw error;
      }
      this.saving(this.#unsaved.size ? "unsaved" : "saved");
    });
  }

  /** @param {number} frame */
  isUnsaved(frame) {
    return this.#unsaved.has(frame);
  }

  get hasUnsaved() {
    return this.#unsaved.size > 0;
  }

  /**
   * Requests that change the project go one after the other.
   * @template T
   * @param {() => Promise<T>} request
   * @returns {Promise<T>}
   */
  inTurn(request) {
    const turn = this.#queue.then(request);
    this.#queue = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }

  /**
   * The run wrote a new mask of a frame.
   * @param {number} frame
   * @param {number} revision
   */
  computed(frame, revision) {
    this.#revisions.set(frame, revision);
    if (this.#unsaved.has(frame)) return;
    this.#grow(frame);
    this.#shown.delete(frame);
  }

  /** Forget what is not waiting to be saved. */
  refresh() {
    this.#age++;
    for (const frame of [...this.#shown.keys()]) {
      if (!this.#unsaved.get(frame)) this.#shown.delete(frame);
    }
  }

  /** Forget everything, for another project. */
  forget() {
    this.#age++;
    this.#shown.clear();
    this.#unsaved.clear();
    this.#revisions.clear();
  }

  /** @param {number} frame */
  #ageOf(frame) {
    return `${this.#age}.${this.#ages.get(frame) ?? 0}`;
  }

  /** @param {number} frame */
  #grow(frame) {
    this.#ages.set(frame, (this.#ages.get(frame) ?? 0) + 1);
  }

  /**
   * @param {number} frame
   * @returns {Promise<Ids>}
   */
  async #load(frame) {
    const project = this.project();
    const size = project.width * project.height;
    const version = `${project.revision}.${this.#revisions.get(frame) ?? 0}`;
    const reference = this.isReference(frame);
    const computed = within(project.computed, frame) || this.#revisions.has(frame);
    const run = computed ? await api.mask(project.id, "masks", frame, version) : null;
    if (!reference || (run && !within(project.stale, frame))) {
      if (run || !reference) return run ?? new Uint8Array(size);
    }
    const painted = await api.mask(project.id, "references", frame, version);
    return painted ? layered(run, painted) : (run ?? new Uint8Array(size));
  }

  /**
   * @param {number} frame
   * @param {Ids} ids
   */
  #keep(frame, ids) {
    this.#shown.delete(frame);
    this.#shown.set(frame, ids);
    let room = Math.max(8, Math.floor(MOST_BYTES / ids.length)) - this.#shown.size;
    for (const old of this.#shown.keys()) {
      if (room >= 0) break;
      if (old === frame || this.#unsaved.has(old)) continue;
      this.#shown.delete(old);
      room++;
    }
  }
}
