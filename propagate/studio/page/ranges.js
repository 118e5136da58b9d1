/**
 * Ranges of frames: first and last frame, both included, in order.
 * @import {Range} from "./types.js"
 */

/**
 * @param {Range[]} ranges
 * @param {number} frame
 */
export function within(ranges, frame) {
  return ranges.some(([first, last]) => first <= frame && frame <= last);
}

/**
 * @param {Range[]} ranges
 * @param {number} frame
 * @returns {Range[]}
 */
export function withFrame(ranges, frame) {
  if (within(ranges, frame)) return ranges;
  /** @type {Range[]} */
  const joined = [];
  /** @type {Range} */
  const own = [frame, frame];
  for (const range of [...ranges, own].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last && range[0] <= last[1] + 1) last[1] = Math.max(last[1], range[1]);
    else joined.push([range[0], range[1]]);
  }
  return joined;
}

/**
 * @param {Range[]} ranges
 * @param {number} frame
 * @returns {Range[]}
 */
export function withoutFrame(ranges, frame) {
  return ranges.flatMap(([first, last]) => {
    if (frame < first || frame > last) return [/** @type {Range} */ ([first, last])];
    /** @type {Range[]} */
    const parts = [[first, frame - 1], [frame + 1, last]];
    return parts.filter(([a, b]) => a <= b);
  });
}
