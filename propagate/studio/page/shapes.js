/**
 * Which pixels a shape covers, row by row, and changes of masks.
 *
 * A pixel belongs to a shape if its centre does.
 * @import {Point, Rect} from "./types.js"
 */

/** @typedef {(y: number, from: number, to: number) => void} Span  pixels from..to-1 of row y */

/**
 * A disc that moves from a to b. It covers at least the pixel under b.
 * @param {number} width
 * @param {number} height
 * @param {Point} a
 * @param {Point} b
 * @param {number} radius
 * @param {Span} span
 */
export function capsule(width, height, a, b, radius, span) {
  const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - radius));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(a.y, b.y) + radius));
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = dx * dx + dy * dy;
  for (let y = top; y <= bottom; y++) {
    const cy = y + 0.5;
    // The row crosses the capsule in one piece: both discs and the band between them.
    let from = Infinity;
    let to = -Infinity;
    for (const end of [a, b]) {
      const h = radius * radius - (cy - end.y) ** 2;
      if (h < 0) continue;
      from = Math.min(from, end.x - Math.sqrt(h));
      to = Math.max(to, end.x + Math.sqrt(h));
    }
    if (length > 0) {
      // Points of the row whose foot lies between a and b, not farther than the radius.
      const norm = Math.sqrt(length);
      let low = -Infinity;
      let high = Infinity;
      if (dy !== 0) {
        const middle = a.x + (dx * (cy - a.y)) / dy;
        const reach = Math.abs((radius * norm) / dy);
        low = middle - reach;
        high = middle + reach;
      } else if (Math.abs(cy - a.y) > radius) continue;
      if (dx !== 0) {
        const first = a.x - ((cy - a.y) * dy) / dx;
        const last = first + length / dx;
        low = Math.max(low, Math.min(first, last));
        high = Math.min(high, Math.max(first, last));
      } else if (cy < Math.min(a.y, b.y) || cy > Math.max(a.y, b.y)) low = Infinity;
      if (low <= high) {
        from = Math.min(from, low);
        to = Math.max(to, high);
      }
    }
    const first = Math.max(0, Math.ceil(from - 0.5));
    const end = Math.min(width, Math.floor(to - 0.5) + 1);
    if (first < end) span(y, first, end);
  }
  const x = Math.floor(b.x);
  const y = Math.floor(b.y);
  if (x >= 0 && x < width && y >= 0 && y < height) span(y, x, x + 1);
}

/**
 * A closed polygon; parts that it covers twice are outside (even-odd).
 * @param {number} width
 * @param {number} height
 * @param {Point[]} points
 * @param {Span} span
 */
export function polygon(width, height, points, span) {
  const ys = points.map((p) => p.y);
  const top = Math.max(0, Math.floor(Math.min(...ys)));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(...ys)));
  for (let y = top; y <= bottom; y++) {
    const cy = y + 0.5;
    /** @type {number[]} */
    const cuts = [];
    points.forEach((p, i) => {
      const q = /** @type {Point} */ (points[(i + 1) % points.length]);
      if (p.y <= cy !== q.y <= cy) cuts.push(p.x + ((cy - p.y) / (q.y - p.y)) * (q.x - p.x));
    });
    cuts.sort((m, n) => m - n);
    for (let i = 0; i + 1 < cuts.length; i += 2) {
      const first = Math.max(0, Math.ceil(/** @type {number} */ (cuts[i]) - 0.5));
      const end = Math.min(width, Math.ceil(/** @type {number} */ (cuts[i + 1]) - 0.5));
      if (first < end) span(y, first, end);
    }
  }
}

/**
 * A box with whole pixels: those that the two corners touch and all between them.
 * @param {number} width
 * @param {number} height
 * @param {Point} a
 * @param {Point} b
 * @returns {Rect}
 */
export function boxOf(width, height, a, b) {
  /** @type {(value: number, size: number) => number} */
  const inside = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));
  return {
    x0: inside(Math.min(a.x, b.x), width),
    y0: inside(Math.min(a.y, b.y), height),
    x1: inside(Math.max(a.x, b.x), width) + 1,
    y1: inside(Math.max(a.y, b.y), height) + 1,
  };
}

/**
 * Which ids a mask has, in order, without the background.
 * @param {Uint8Array} ids
 * @returns {number[]}
 */
export function idsIn(ids) {
  const seen = new Uint8Array(256);
  for (let i = 0; i < ids.length; i++) seen[/** @type {number} */ (ids[i])] = 1;
  /** @type {number[]} */
  const found = [];
  for (let id = 1; id < 256; id++) if (seen[id]) found.push(id);
  return found;
}

/**
 * Whether two masks are equal.
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
export function equal(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * The objects whose pixels differ between two masks.
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 * @returns {number[]} in order
 */
export function changedIds(a, b) {
  const seen = new Uint8Array(256);
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) seen[/** @type {number} */ (a[i])] = seen[/** @type {number} */ (b[i])] = 1;
  }
  return [...seen.keys()].filter((id) => id && seen[id]);
}

/**
 * The objects that were painted or erased: they gained pixels, or lost some to the background.
 * @param {Uint8Array} before
 * @param {Uint8Array} after
 * @returns {number[]} in order
 */
export function touchedIds(before, after) {
  return idsIn(after.map((id, i) => (id === before[i] ? 0 : id || /** @type {number} */ (before[i]))));
}

/**
 * A mask with some of its objects only.
 * @param {Uint8Array<ArrayBuffer>} ids
 * @param {number[]} kept
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function only(ids, kept) {
  const table = new Uint8Array(256);
  for (const id of kept) table[id] = id;
  return ids.map((id) => /** @type {number} */ (table[id]));
}

/**
 * Run lengths of a mask, which are small enough to keep for undo.
 * @param {Uint8Array} ids
 * @returns {Uint32Array} pairs: id, number of pixels
 */
export function packRuns(ids) {
  /** @type {number[]} */
  const runs = [];
  for (let i = 0; i < ids.length; ) {
    const id = /** @type {number} */ (ids[i]);
    let end = i + 1;
    while (end < ids.length && ids[end] === id) end++;
    runs.push(id, end - i);
    i = end;
  }
  return Uint32Array.from(runs);
}

/**
 * @param {Uint32Array} runs
 * @param {number} size  pixels of the mask
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function unpackRuns(runs, size) {
  const ids = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const length = /** @type {number} */ (runs[i + 1]);
    ids.fill(/** @type {number} */ (runs[i]), at, at + length);
    at += length;
  }
  return ids;
}

/**
 * A computed mask with a reference on top. Objects that the reference names are exactly as it says.
 * @param {Uint8Array<ArrayBuffer>|null} computed
 * @param {Uint8Array<ArrayBuffer>} reference
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function layered(computed, reference) {
  const named = new Uint8Array(256);
  for (const id of idsIn(reference)) named[id] = 1;
  const out = reference.slice();
  if (computed && named.includes(1)) {
    for (let i = 0; i < out.length; i++) {
      const id = /** @type {number} */ (computed[i]);
      if (out[i] === 0 && !named[id]) out[i] = id;
    }
  }
  return out;
}
