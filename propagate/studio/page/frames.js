/** Pictures of the video, decoded and kept while they fit. */

import { api } from "./api.js";

const MOST_BYTES = 384 * 2 ** 20;
const AHEAD = 16;

export class Frames {
  /** Least recently used first. @type {Map<number, ImageBitmap>} */
  #kept = new Map();
  /** @type {Map<number, {promise: Promise<ImageBitmap>, abort: AbortController}>} */
  #coming = new Map();
  #bytes = 0;
  #shown = -1;

  /** @param {string} project */
  constructor(project) {
    this.project = project;
  }

  /**
   * @param {number} frame
   * @returns {Promise<ImageBitmap>}
   */
  async get(frame) {
    const kept = this.peek(frame);
    if (kept) return kept;
    const coming = this.#coming.get(frame);
    if (coming) return coming.promise;
    const abort = new AbortController();
    const promise = api.frame(this.project, frame, abort.signal).then((bitmap) => {
      this.#keep(frame, bitmap);
      return bitmap;
    });
    this.#coming.set(frame, { promise, abort });
    try {
      return await promise;
    } finally {
      this.#coming.delete(frame);
    }
  }

  /**
   * @param {number} frame
   * @returns {ImageBitmap|null}
   */
  peek(frame) {
    const bitmap = this.#kept.get(frame);
    if (!bitmap) return null;
    this.#kept.delete(frame);
    this.#kept.set(frame, bitmap);
    return bitmap;
  }

  /**
   * The picture on the screen is not dropped.
   * @param {number} frame
   */
  show(frame) {
    this.#shown = frame;
  }

  /**
   * Load the next frames, and drop requests for frames that are far away.
   * @param {number} frame
   * @param {number} count  frames of the video
   */
  prefetch(frame, count) {
    const bitmap = this.#kept.get(frame);
    const room = bitmap ? Math.floor(MOST_BYTES / (bitmap.width * bitmap.height * 4)) : 8;
    const ahead = Math.max(2, Math.min(AHEAD, Math.floor(room / 2)));
    for (const [index, { abort }] of this.#coming) {
      if (index < frame - 2 || index > frame + ahead * 2) abort.abort();
    }
    for (let next = frame + 1; next <= Math.min(count - 1, frame + ahead); next++) {
      if (!this.#kept.has(next)) this.get(next).catch(() => undefined);
    }
  }

  /** Close everything. */
  clear() {
    for (const { abort } of this.#coming.values()) abort.abort();
    for (const bitmap of this.#kept.values()) bitmap.close();
    this.#kept.clear();
    this.#bytes = 0;
  }

  /**
   * @param {number} frame
   * @param {ImageBitmap} bitmap
   */
  #keep(frame, bitmap) {
    this.#kept.set(frame, bitmap);
    this.#bytes += bitmap.width * bitmap.height * 4;
    for (const [index, old] of this.#kept) {
      if (this.#bytes <= MOST_BYTES) break;
      if (index === this.#shown || index === frame) continue;
      this.#kept.delete(index);
      this.#bytes -= old.width * old.height * 4;
      old.close();
    }
  }
}
