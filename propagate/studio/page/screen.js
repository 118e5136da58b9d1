/**
 * The frame on the screen with its mask: loading it, and saying when it is not there.
 * @import {Project} from "./types.js"
 */

import { Frames } from "./frames.js";

/** @typedef {Uint8Array<ArrayBuffer>} Ids */

/** A frame that takes longer than this gives way to the one that is wanted now. */
const PATIENCE_MS = 150;
/** After so long without it, the page says that the frame is on its way and shows no other one. */
const SILENT_MS = 500;

export class Screen {
  frames = new Frames("");
  /** The frame that is seen; -1 for none. */
  shown = -1;
  /** Counts calls of `goTo`. */
  #wanted = 0;
  /** @type {Promise<void>|null} */
  #loading = null;
  #timer = 0;

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./masks.js").Masks} masks
   * @param {import("./picture.js").Picture} picture
   * @param {{painting: () => boolean, leave: () => void}} page  whether somebody paints; called
   *   before another frame is shown
   */
  constructor(store, masks, picture, page) {
    this.store = store;
    this.masks = masks;
    this.picture = picture;
    this.page = page;
  }

  /** @param {Project} project */
  open(project) {
    this.frames.clear();
    this.frames = new Frames(project.id);
    this.picture.show(null, null);
    this.shown = -1;
  }

  /**
   * Show a frame with its mask. While one is loaded, of further calls the last one counts.
   * @param {number} frame
   * @returns {Promise<void>} when the last one is shown
   */
  goTo(frame) {
    const { project } = this.store.state;
    if (!project) return Promise.resolve();
    const at = Math.min(Math.max(0, frame), Math.max(0, project.frame_count - 1));
    this.#wanted++;
    if (at !== this.store.state.frame) {
      this.page.leave();
      this.store.set({ frame: at });
    }
    this.#watchTime();
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    return this.#loading;
  }

  async #load() {
    for (;;) {
      const turn = this.#wanted;
      const { frame, project } = this.store.state;
      if (!project) return;
      const pair = Promise.all([this.frames.get(frame), this.masks.get(frame)]);
      try {
        const found = await Promise.race([pair, this.#overtaken(pair, turn)]);
        if (found && this.store.state.project?.id === project.id) this.#present(frame, ...found);
      } catch (error) {
        if (turn === this.#wanted) {
          if (frame !== this.shown) this.#say(`Frame ${frame} could not be loaded.`);
          throw error;
        }
      }
      if (turn === this.#wanted) return;
    }
  }

  /**
   * Wait until something is loaded, or it takes long and something else is wanted.
   * @param {Promise<unknown>} pair
   * @param {number} turn
   * @returns {Promise<null>}
   */
  async #overtaken(pair, turn) {
    let done = false;
    pair.catch(() => undefined).then(() => (done = true));
    do await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
    while (!done && turn === this.#wanted);
    return null;
  }

  /**
   * @param {number} frame
   * @param {ImageBitmap} bitmap
   * @param {Ids} ids
   */
  #present(frame, bitmap, ids) {
    if (this.page.painting() && frame === this.shown) return;
    const { project, playing } = this.store.state;
    this.shown = frame;
    this.#say("");
    this.#watchTime();
    this.frames.show(frame);
    this.picture.show(bitmap, ids);
    const last = (project?.frame_count ?? 1) - 1;
    this.frames.prefetch(frame, last + 1);
    if (!playing) return;
    for (let next = frame + 1; next <= Math.min(last, frame + 8); next++) {
      this.masks.get(next).catch(() => undefined);
    }
  }

  /** Say it if the frame that is wanted does not come soon. */
  #watchTime() {
    if (this.store.state.frame === this.shown) this.#say("");
    else if (!this.#timer) this.#timer = window.setTimeout(() => this.#sayLate(), SILENT_MS);
  }

  #sayLate() {
    this.#timer = 0;
    const { frame } = this.store.state;
    if (frame !== this.shown) this.#say(`Frame ${frame} is being loaded …`);
  }

  /**
   * Cover the picture with a line, so that no picture stands below the number of another one.
   * @param {string} missing  empty: the picture is that of the frame
   */
  #say(missing) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (missing !== this.store.state.missing) this.store.set({ missing });
  }
}
