/**
 * Where the names of objects stand: on the largest part of each, and not on each other.
 * @import {Point} from "./types.js"
 */

/** A mask of noise has so many pieces that looking through them takes too long. */
const MOST_RUNS = 400_000;

/**
 * Find the top of the largest part of each object. Parts hang together along sides of pixels.
 * @param {Uint8Array} ids
 * @param {number} width
 * @param {number} height
 * @returns {Map<number, Point>} by id: the middle of the part's highest edge, in pixels of the frame
 */
export function topsOf(ids, width, height) {
  /** Runs of one id in a row: first pixel, end, id, row; the run that stands for its part; pixels. */
  /** @type {number[]} */ const from = [];
  /** @type {number[]} */ const to = [];
  /** @type {number[]} */ const idOf = [];
  /** @type {number[]} */ const rowOf = [];
  /** @type {number[]} */ const parent = [];
  /** @type {(list: number[], i: number) => number} */
  const at = (list, i) => /** @type {number} */ (list[i]);
  /** @param {number} run */
  const rootOf = (run) => {
    while (at(parent, run) !== run) {
      parent[run] = at(parent, at(parent, run));
      run = at(parent, run);
    }
    return run;
  };

  let above = 0;
  for (let y = 0; y < height && from.length < MOST_RUNS; y++) {
    const begin = from.length;
    const row = y * width;
    for (let x = 0; x < width; ) {
      const id = /** @type {number} */ (ids[row + x]);
      let end = x + 1;
      while (end < width && ids[row + end] === id) end++;
      if (id) {
        const run = from.push(x) - 1;
        to.push(end);
        idOf.push(id);
        rowOf.push(y);
        parent.push(run);
        // Runs above that end before this one begins touch none of the next either.
        while (above < begin && at(to, above) <= x) above++;
        for (let other = above; other < begin && at(from, other) < end; other++) {
          if (idOf[other] !== id) continue;
          const [a, b] = [rootOf(other), rootOf(run)];
          parent[Math.max(a, b)] = Math.min(a, b);
        }
      }
      x = end;
    }
    above = begin;
  }

  const sizes = new Float64Array(from.length);
  from.forEach((first, run) => {
    const root = rootOf(run);
    sizes[root] = /** @type {number} */ (sizes[root]) + at(to, run) - first;
  });
  /** The part of each object, by its highest run. @type {Map<number, number>} */
  const largest = new Map();
  sizes.forEach((size, run) => {
    const before = largest.get(at(idOf, run));
    if (size > (before === undefined ? 0 : /** @type {number} */ (sizes[before]))) largest.set(at(idOf, run), run);
  });
  /** @type {Map<number, Point>} */
  const tops = new Map();
  for (const [id, root] of largest) {
    let longest = root;
    for (let run = root; run < from.length && rowOf[run] === rowOf[root]; run++) {
      if (rootOf(run) === root && at(to, run) - at(from, run) > at(to, longest) - at(from, longest)) longest = run;
    }
    tops.set(id, { x: (at(from, longest) + at(to, longest)) / 2, y: at(rowOf, root) });
  }
  return tops;
}

/** @typedef {{x: number, y: number, width: number, height: number}} Box */

const GAP = 3;

/**
 * Move boxes up and down, as little as needed, until none lies on another one.
 * @param {Box[]} wanted  CSS pixels; the first ones keep their places
 * @param {Box} room  they stay inside
 * @returns {Box[]} in the same order
 */
export function apart(wanted, room) {
  /** @type {Box[]} */
  const placed = [];
  for (const box of wanted) {
    const x = Math.max(room.x, Math.min(room.x + room.width - box.width, box.x));
    const lowest = Math.max(room.y, room.y + room.height - box.height);
    const y = Math.max(room.y, Math.min(lowest, box.y));
    // The next free place above or below touches the room or a box that is there.
    const places = [y, room.y, lowest];
    for (const other of placed) places.push(other.y - box.height - GAP, other.y + other.height + GAP);
    const free = places
      .filter((each) => each >= room.y && each <= lowest)
      .filter((each) => !placed.some((other) => touches({ ...box, x, y: each }, other)))
      .sort((a, b) => Math.abs(a - y) - Math.abs(b - y));
    placed.push({ ...box, x, y: free[0] ?? y });
  }
  return placed;
}

/**
 * @param {Box} a
 * @param {Box} b
 */
function touches(a, b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}
