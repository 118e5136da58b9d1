/**
 * The mask of each frame: what the run computed, what a person painted, and saving the latter.
 * @import {Project, Saving} from "./types.js"
 */

import { api } from "./api.js";
import { within } from "./ranges.js";
import { equal, layered, only } from "./shapes.js";

const SAVE_AFTER_MS = 300;
const MOST_BYTES = 192 * 2 ** 20;

/** @typedef {Uint8Array<ArrayBuffer>} Ids */

/**
 * What a person gave on a frame: the ids that are shown there, and which objects of them are meant.
 * All others go on as the run finds them.
 * @typedef {{ids: Ids, named: number[]}} Reference
 */

export class Masks {
  /** Masks as they are shown, least recently used first. @type {Map<number, Ids>} */
  #shown = new Map();
  /** Frames whose masks may have changed. They stay until the new ones are here. @type {Set<number>} */
  #outdated = new Set();
  /** References that wait to be saved; null: to be deleted. @type {Map<number, Reference|null>} */
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
      if (kept && !this.#outdated.has(frame)) return kept;
      const age = this.#ageOf(frame);
      const ids = await this.#load(frame);
      if (age !== this.#ageOf(frame)) continue;
      const same = kept && equal(kept, ids) ? kept : ids;
      this.#keep(frame, same);
      return same;
    }
  }

  /**
   * The mask that was shown last on a frame, if it is kept.
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
   * @param {Reference|null} reference  nobody writes into its ids afterwards
   */
  setReference(frame, reference) {
    this.#unsaved.set(frame, reference);
    this.#grow(frame);
    if (reference) this.#keep(frame, reference.ids);
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
        for (const [frame, reference] of [...this.#unsaved]) {
          const { id } = this.project();
          const answer = reference
            ? await api.saveReference(id, frame, only(reference.ids, reference.named))
            : await api.deleteReference(id, frame);
          // It may have changed again while it was sent.
          if (this.#unsaved.get(frame) === reference) this.#unsaved.delete(frame);
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
    this.#outdated.add(frame);
  }

  /**
   * Load the mask of a frame again when it is needed.
   * @param {number} frame
   */
  refreshOne(frame) {
    if (!this.#unsaved.get(frame)) this.#outdated.add(frame);
  }

  /** Load all masks again when they are needed, but those that wait to be saved. */
  refresh() {
    this.#age++;
    for (const frame of this.#shown.keys()) {
      if (!this.#unsaved.get(frame)) this.#outdated.add(frame);
    }
  }

  /** Forget everything, for another project. */
  forget() {
    this.#age++;
    this.#shown.clear();
    this.#outdated.clear();
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
    this.#outdated.delete(frame);
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
