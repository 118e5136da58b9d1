/**
 * What a tool is, and what tools get from the page.
 * @import {PenPoint, Point} from "./types.js"
 * @import {View} from "./view.js"
 */

/**
 * @typedef {{
 *   down: (point: PenPoint, on: boolean, plain: boolean) => void,
 *   move: (points: PenPoint[]) => void,
 *   up: () => void,
 *   cancel: () => void,
 *   key: (key: string) => boolean,
 *   draw: (context: CanvasRenderingContext2D, view: View, pointer: Point|null) => void,
 * }} Tool
 *
 * `on` is false for the right button, Alt and the eraser of a pen; `plain` is true with Shift.
 * `key` gets Enter, Escape and Backspace and says whether it used them.
 */

/**
 * @typedef {{
 *   store: import("./store.js").Store,
 *   masks: import("./masks.js").Masks,
 *   editor: import("./editor.js").Editor,
 *   picture: import("./picture.js").Picture,
 *   failed: (error: unknown) => void,
 *   info: (text: string) => void,
 * }} Host
 */

/**
 * The radius at a point: with pressure turned on, a light touch paints thinner.
 * @param {import("./store.js").State} state
 * @param {PenPoint} point
 */
export function radiusAt(state, point) {
  return state.pressure ? Math.max(0.5, state.radius * 2 * point.pressure) : state.radius;
}

/**
 * Draw the ring that shows what a brush covers.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Point|null} pointer  pixels of the frame
 * @param {number} radius
 * @param {string} colour
 */
export function drawRing(context, view, pointer, radius, colour) {
  if (!pointer) return;
  const { x, y } = view.toStage(pointer);
  const size = Math.max(2, radius * view.scale);
  for (const [style, line] of /** @type {[string, number][]} */ ([["rgba(0,0,0,0.7)", 3.5], [colour, 1.5]])) {
    context.beginPath();
    context.arc(x, y, size, 0, 2 * Math.PI);
    context.strokeStyle = style;
    context.lineWidth = line;
    context.stroke();
  }
}

/**
 * The colour of the chosen object.
 * @param {import("./store.js").State} state
 */
export function activeColour(state) {
  return state.project?.objects.find(({ id }) => id === state.active)?.colour ?? "#ffffff";
}
