/**
 * The boundaries of objects as lines between pixels.
 * @import {Rect} from "./types.js"
 */

/**
 * `lines` counts the lines of the path.
 * @typedef {{path: Path2D, box: Rect, lines: number}} Outline
 */

/**
 * Find the boundary and the bounding box of each object.
 * @param {Uint8Array} ids
 * @param {number} width
 * @param {number} height
 * @returns {Map<number, Outline>} by id; lines are in pixels of the frame
 */
export function outlines(ids, width, height) {
  /** @type {Map<number, Outline>} */
  const found = new Map();
  /** @param {number} id */
  const of = (id) => {
    let outline = found.get(id);
    if (!outline) {
      outline = { path: new Path2D(), box: { x0: width, y0: height, x1: 0, y1: 0 }, lines: 0 };
      found.set(id, outline);
    }
    return outline;
  };
  /** @type {(id: number, x: number, y: number, x2: number, y2: number) => void} */
  const line = (id, x, y, x2, y2) => {
    if (!id) return;
    const outline = of(id);
    const { path, box } = outline;
    outline.lines++;
    path.moveTo(x, y);
    path.lineTo(x2, y2);
    if (x < box.x0) box.x0 = x;
    if (y < box.y0) box.y0 = y;
    if (x2 > box.x1) box.x1 = x2;
    if (y2 > box.y1) box.y1 = y2;
  };

  for (let y = 0; y <= height; y++) {
    const row = y * width;
    // Lines above this row: pieces of one pair of ids become one line.
    let above = 0;
    let below = 0;
    let from = 0;
    let left = 0;
    for (let x = 0; x <= width; x++) {
      const up = y > 0 && x < width ? /** @type {number} */ (ids[row + x - width]) : 0;
      const here = y < height && x < width ? /** @type {number} */ (ids[row + x]) : 0;
      if (here !== left) {
        line(left, x, y, x, y + 1);
        line(here, x, y, x, y + 1);
        left = here;
      }
      if (up === above && here === below && x < width) continue;
      if (above !== below) {
        line(above, from, y, x, y);
        line(below, from, y, x, y);
      }
      above = up;
      below = here;
      from = x;
    }
  }
  return found;
}
