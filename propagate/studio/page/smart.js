/**
 * The smart brush: what a dab changes in a mask.
 * @import {Point, Prompt, Rect} from "./types.js"
 */

import { capsule } from "./shapes.js";

/** @typedef {{points: [number, number][], radius: number, on: boolean}} Dab */

/** Points along each side of the grid that stand for the mask that is there already. */
const GRID = 7;

/**
 * What to ask for: what was given, and points that say what the mask is away from dabs.
 * @param {Uint8Array} ids  the mask before the first of them
 * @param {number} width
 * @param {number} height
 * @param {number} object
 * @param {Prompt[]} given
 * @returns {Prompt[]}
 */
export function promptsOf(ids, width, height, object, given) {
  const prompts = [...given];
  const dabs = given.filter((prompt) => prompt.kind === "stroke");
  // A box says what is outside of it, and everything inside is open.
  if (given.some((prompt) => prompt.kind === "box")) return prompts;
  const box = boxOfObject(ids, width, object);
  if (!box) return prompts;
  const stepX = Math.max(2, (box.x1 - box.x0) / GRID);
  const stepY = Math.max(2, (box.y1 - box.y0) / GRID);
  for (let y = box.y0 - stepY / 2; y < box.y1 + stepY; y += stepY) {
    for (let x = box.x0 - stepX / 2; x < box.x1 + stepX; x += stepX) {
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      if (dabs.some((dab) => near(dab, x, y))) continue;
      // A point near the boundary says little, and may be wrong.
      const around = [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]].map(([dx, dy]) => {
        const column = Math.floor(x + ((dx ?? 0) * stepX) / 3);
        const row = Math.floor(y + ((dy ?? 0) * stepY) / 3);
        const inside = column >= 0 && row >= 0 && column < width && row < height;
        return inside && ids[row * width + column] === object;
      });
      if (around.every((on) => on)) prompts.push({ kind: "point", x, y, on: true });
      else if (around.every((on) => !on)) prompts.push({ kind: "point", x, y, on: false });
    }
  }
  return prompts;
}

/**
 * @param {Dab} dab
 * @param {number} x
 * @param {number} y
 */
function near(dab, x, y) {
  const reach = dab.radius * 3;
  return dab.points.some(([px, py]) => Math.hypot(px - x, py - y) <= reach);
}

/**
 * @param {Uint8Array} ids
 * @param {number} width
 * @param {number} object
 * @returns {Rect|null}
 */
function boxOfObject(ids, width, object) {
  const box = { x0: Infinity, y0: Infinity, x1: -1, y1: -1 };
  for (let i = 0; i < ids.length; i++) {
    if (ids[i] !== object) continue;
    const x = i % width;
    const y = (i - x) / width;
    box.x0 = Math.min(box.x0, x);
    box.y0 = Math.min(box.y0, y);
    box.x1 = Math.max(box.x1, x + 1);
    box.y1 = Math.max(box.y1, y + 1);
  }
  return box.x1 < 0 ? null : box;
}

/**
 * Change a mask as the answer says, where the dab is.
 *
 * If the object had no pixel, it becomes the answer. If it had, the dab changes only the connected
 * region that it touches: an answer is as coarse as the features, and what was right stays exact.
 * Other objects keep their pixels, but under a dab.
 *
 * @param {Uint8Array} ids  changed in place
 * @param {number} width
 * @param {number} height
 * @param {number} object
 * @param {Uint8Array} answer  0 or 1
 * @param {Dab} dab  the last one
 * @param {boolean} whole  whether the object becomes the answer everywhere
 * @param {ReadonlySet<number>} kept  ids that keep their pixels in any case
 */
export function applyAnswer(ids, width, height, object, answer, dab, whole, kept) {
  const under = new Uint8Array(ids.length);
  const points = dab.points.map(([x, y]) => ({ x, y }));
  points.forEach((point, i) => {
    capsule(width, height, points[Math.max(0, i - 1)] ?? point, point, dab.radius, (y, from, to) => {
      under.fill(1, y * width + from, y * width + to);
    });
  });
  const change = new Uint8Array(ids.length);
  for (let i = 0; i < ids.length; i++) {
    const is = ids[i] === object;
    const wanted = under[i] ? dab.on : Boolean(answer[i]);
    if (is === wanted || kept.has(/** @type {number} */ (ids[i]))) continue;
    if (wanted && ids[i] !== 0 && !under[i]) continue;
    if (!whole && wanted !== dab.on) continue;
    change[i] = 1;
  }
  const reached = whole ? change : connected(change, under, width, height);
  for (let i = 0; i < ids.length; i++) {
    if (reached[i]) ids[i] = ids[i] === object ? 0 : object;
  }
}

/**
 * Change a mask as the answer to a box says. An object with pixels changes only inside the box.
 *
 * @param {Uint8Array} ids  changed in place
 * @param {number} width
 * @param {number} object
 * @param {Uint8Array} answer  0 or 1
 * @param {Rect} box
 * @param {boolean} whole  whether the object becomes the answer everywhere
 * @param {ReadonlySet<number>} kept
 */
export function applyBox(ids, width, object, answer, box, whole, kept) {
  for (let i = 0; i < ids.length; i++) {
    const x = i % width;
    const y = (i - x) / width;
    const inside = x >= box.x0 && x < box.x1 && y >= box.y0 && y < box.y1;
    if (!inside && !whole) continue;
    const id = /** @type {number} */ (ids[i]);
    if (kept.has(id)) continue;
    if (answer[i] && id === 0) ids[i] = object;
    else if (!answer[i] && id === object) ids[i] = 0;
  }
}

/**
 * The pixels of a region that hang together with seeds, along sides. A seed counts wherever the
 * region touches it.
 * @param {Uint8Array} region  0 or 1
 * @param {Uint8Array} seeds  0 or 1
 * @param {number} width
 * @param {number} height
 * @returns {Uint8Array} 0 or 1
 */
export function connected(region, seeds, width, height) {
  const found = new Uint8Array(region.length);
  /** @type {number[]} */
  const open = [];
  /** @param {number} i */
  const visit = (i) => {
    if (region[i] && !found[i]) {
      found[i] = 1;
      open.push(i);
    }
  };
  /** @param {number} i */
  const spread = (i) => {
    const x = i % width;
    if (x > 0) visit(i - 1);
    if (x < width - 1) visit(i + 1);
    if (i >= width) visit(i - width);
    if (i < width * (height - 1)) visit(i + width);
  };
  for (let i = 0; i < seeds.length; i++) {
    if (!seeds[i]) continue;
    visit(i);
    spread(i);
  }
  for (let i = open.pop(); i !== undefined; i = open.pop()) spread(i);
  return found;
}
