/**
 * Frames where a person should look.
 * @import {Track, Tracks} from "./types.js"
 */

/** An object whose margin is below this may be another one. */
export const LOW_MARGIN = 0.2;

/**
 * Frames where an object becomes unsure or absent, or where its margin is below `LOW_MARGIN` and a
 * local minimum: the rule of `propagate/report/doubtful.py`.
 * @param {Tracks} tracks
 * @param {ReadonlySet<number>} objects  ids that count
 * @returns {number[]} in order
 */
export function doubtful(tracks, objects) {
  /** @type {Set<number>} */
  const frames = new Set();
  for (const [id, track] of Object.entries(tracks)) {
    if (objects.has(Number(id))) for (const frame of doubtfulIn(track)) frames.add(frame);
  }
  return [...frames].sort((a, b) => a - b);
}

/**
 * @param {Track} track
 * @returns {number[]}
 */
export function doubtfulIn({ state, margin }) {
  /** @type {number[]} */
  const frames = [];
  const margins = state.map((here, i) => (here && here !== "a" ? (margin[i] ?? null) : null));
  state.forEach((here, i) => {
    const begins = (here === "u" || here === "a") && here !== (state[i - 1] ?? null);
    if (begins || isLowest(margins, i)) frames.push(i);
  });
  return frames;
}

/**
 * Whether a margin is low, and the first of a local minimum.
 * @param {(number|null)[]} margins
 * @param {number} i
 */
function isLowest(margins, i) {
  const own = margins[i] ?? null;
  if (own === null || own >= LOW_MARGIN) return false;
  const before = margins[i - 1] ?? null;
  if (before !== null && before <= own) return false;
  for (let k = i + 1; k < margins.length; k++) {
    const after = margins[k] ?? null;
    if (after !== own) return after === null || after > own;
  }
  return true;
}

/**
 * The next frame of a list in a direction; null at the end.
 * @param {number[]} frames  in order
 * @param {number} from
 * @param {1|-1} direction
 */
export function nextOf(frames, from, direction) {
  if (direction > 0) return frames.find((frame) => frame > from) ?? null;
  return frames.filter((frame) => frame < from).at(-1) ?? null;
}
