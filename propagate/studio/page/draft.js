/**
 * The mask of a frame while it is painted.
 * @import {Rect} from "./types.js"
 */

/** @typedef {Uint8Array<ArrayBuffer>} Ids */

export class Draft {
  /** Ids that are painted. @type {Ids} */
  ids;
  /** What changed since `takeChanged`. @type {Rect|null} */
  #changed = null;

  /**
   * @param {number} frame
   * @param {Ids} before
   * @param {number} width
   * @param {ReadonlySet<number>} kept  ids that no tool may change
   */
  constructor(frame, before, width, kept) {
    this.frame = frame;
    this.before = before;
    this.ids = before.slice();
    this.width = width;
    this.kept = kept;
  }

  /**
   * Give pixels to an object, or with 0, to the background.
   * @param {number} id
   * @returns {import("./shapes.js").Span}
   */
  painter(id) {
    return (y, from, to) => {
      const row = y * this.width;
      for (let i = row + from; i < row + to; i++) {
        if (!this.kept.has(/** @type {number} */ (this.ids[i]))) this.ids[i] = id;
      }
      this.touch({ x0: from, y0: y, x1: to, y1: y + 1 });
    };
  }

  /** @param {Rect} rect */
  touch(rect) {
    const all = (this.#changed ??= { ...rect });
    all.x0 = Math.min(all.x0, rect.x0);
    all.y0 = Math.min(all.y0, rect.y0);
    all.x1 = Math.max(all.x1, rect.x1);
    all.y1 = Math.max(all.y1, rect.y1);
  }

  takeChanged() {
    const changed = this.#changed;
    this.#changed = null;
    return changed;
  }
}
