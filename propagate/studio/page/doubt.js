/**
 * Frames where a person should look.
 * @import {Track, Tracks} from "./types.js"
 */

/** An object whose margin is below this may be another one. */
export const LOW_MARGIN = 0.2;

/**
 * Frames where an object becomes unsure or absent, or where its margin is lowest in a stretch below
 * `LOW_MARGIN`.
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
  let lowest = -1;
  for (let i = 0; i <= state.length; i++) {
    const here = state[i] ?? null;
    if ((here === "u" || here === "a") && here !== (state[i - 1] ?? null)) frames.push(i);
    const value = here && here !== "a" ? (margin[i] ?? null) : null;
    if (value !== null && value < LOW_MARGIN) {
      if (lowest < 0 || value < (margin[lowest] ?? 1)) lowest = i;
    } else if (lowest >= 0) {
      frames.push(lowest);
      lowest = -1;
    }
  }
  return frames;
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
