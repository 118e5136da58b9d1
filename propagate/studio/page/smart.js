/**
 * The smart brush: what a dab changes in a mask.
 * @import {Point, Prompt, Rect} from "./types.js"
 */

import { capsule } from "./shapes.js";

/** @typedef {{points: [number, number][], radius: number, on: boolean}} Dab */

/** Points along each side of the grid that stand for the mask that is there already. */
const GRID = 7;
/** After so many dabs and boxes a mask is good enough to say what else belongs to the object. */
const COARSE = 3;
/** The most that one dab removes and adds, as a part of the object. */
const MOST_REMOVED = 0.5;
const MOST_ADDED = 1;
/** A part that is left beside a removal goes along if it is no larger than this part of the removal. */
const CRUMB = 0.125;

/**
 * What to ask for: what was given, and points that say what the mask is away from dabs.
 *
 * The points hold what is right. They are left out while a mask that came from dabs alone is coarse,
 * because they would hold what is wrong too.
 *
 * @param {Uint8Array} ids  the mask that is shown
 * @param {number} width
 * @param {number} height
 * @param {number} object
 * @param {Prompt[]} given  dabs and boxes, the new one last
 * @param {boolean} fromNothing  whether the object had no pixel before the first of them
 * @returns {Prompt[]}
 */
export function promptsOf(ids, width, height, object, given, fromNothing) {
  const prompts = [...given];
  const dabs = given.filter((prompt) => prompt.kind === "stroke");
  const coarse = fromNothing && given.length <= COARSE;
  // A box asks for all that is inside of it anew.
  if (coarse || given.at(-1)?.kind === "box") return prompts;
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
 * An object without pixels becomes the answer. On one that is there, a dab that is on only adds and
 * one that is off only removes, in the region that hangs together with the dab, up to a part of the
 * object: an answer is as coarse as the features, and a single dab may turn it over. Small parts
 * that a removal leaves beside itself go along. Other objects
 * keep their pixels, but under a dab.
 *
 * @param {Uint8Array} ids  changed in place
 * @param {number} width
 * @param {number} height
 * @param {number} object
 * @param {Uint8Array} answer  0 or 1
 * @param {Dab} dab  the last one
 * @param {ReadonlySet<number>} kept  ids that keep their pixels in any case
 */
export function applyAnswer(ids, width, height, object, answer, dab, kept) {
  const under = new Uint8Array(ids.length);
  const points = dab.points.map(([x, y]) => ({ x, y }));
  points.forEach((point, i) => {
    capsule(width, height, points[Math.max(0, i - 1)] ?? point, point, dab.radius, (y, from, to) => {
      under.fill(1, y * width + from, y * width + to);
    });
  });
  const change = new Uint8Array(ids.length);
  let size = 0;
  for (let i = 0; i < ids.length; i++) {
    const is = ids[i] === object;
    if (is) size++;
    const wanted = under[i] ? dab.on : Boolean(answer[i]);
    if (is === wanted || wanted !== dab.on || kept.has(/** @type {number} */ (ids[i]))) continue;
    if (wanted && ids[i] !== 0 && !under[i]) continue;
    change[i] = 1;
  }
  const most = Math.floor(size * (dab.on ? MOST_ADDED : MOST_REMOVED));
  const reached = size ? connected(change, under, width, height, most) : change;
  if (size && !dab.on && !kept.has(object)) addCrumbs(reached, ids, object, width, height);
  for (let i = 0; i < ids.length; i++) {
    if (reached[i]) ids[i] = dab.on ? object : 0;
  }
}

/**
 * What a removal leaves of the region that it touches goes along, if it is small: an answer is as
 * coarse as the features, and leaves a pixel here and there.
 *
 * @param {Uint8Array} removed  0 or 1; changed in place
 * @param {Uint8Array} ids  before the removal
 * @param {number} object
 * @param {number} width
 * @param {number} height
 */
function addCrumbs(removed, ids, object, width, height) {
  const most = Math.floor(removed.reduce((sum, each) => sum + each, 0) * CRUMB);
  const seen = removed.slice();
  /** @type {(i: number) => number[]} */
  const around = (i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    const found = [];
    for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
      for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
        found.push(row * width + column);
      }
    }
    return found;
  };
  const left = ids.reduce((sum, id, i) => sum + (id === object && !removed[i] ? 1 : 0), 0);
  /** @type {number[]} */
  const crumbs = [];
  for (let start = 0; start < removed.length; start++) {
    if (!removed[start]) continue;
    for (const first of around(start)) {
      if (ids[first] !== object || seen[first]) continue;
      // A part of what is left, corner to corner.
      const part = [first];
      seen[first] = 1;
      for (let at = 0; at < part.length; at++) {
        for (const i of around(/** @type {number} */ (part[at]))) {
          if (ids[i] !== object || seen[i]) continue;
          seen[i] = 1;
          part.push(i);
        }
      }
      if (part.length <= most && part.length < left) crumbs.push(...part);
    }
  }
  for (const i of crumbs) removed[i] = 1;
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
 * @param {number} most  how many pixels are found, those first that are near the seeds; those under
 *   seeds are found in any case
 * @returns {Uint8Array} 0 or 1
 */
export function connected(region, seeds, width, height, most) {
  const found = new Uint8Array(region.length);
  /** @type {number[]} */
  const open = [];
  for (let i = 0; i < seeds.length; i++) {
    if (!seeds[i]) continue;
    if (region[i]) found[i] = 1;
    open.push(i);
  }
  let count = open.reduce((sum, i) => sum + (found[i] ?? 0), 0);
  /** @param {number} i */
  const visit = (i) => {
    if (!region[i] || found[i] || count >= most) return;
    found[i] = 1;
    count++;
    open.push(i);
  };
  for (let at = 0; at < open.length; at++) {
    const i = /** @type {number} */ (open[at]);
    const x = i % width;
    if (x > 0) visit(i - 1);
    if (x < width - 1) visit(i + 1);
    if (i >= width) visit(i - width);
    if (i < width * (height - 1)) visit(i + width);
  }
  return found;
}
