/**
 * Painting with the keyboard: a cursor that the arrow keys move.
 * @import {Picture} from "./picture.js"
 * @import {PointerInput} from "./pointer.js"
 * @import {Tool} from "./tool.js"
 * @import {View} from "./view.js"
 */

/** Steps of the cursor, in CSS pixels; at least one pixel of the frame. */
const STEP = 4;
const LEAP = 24;

/** The cross, in CSS pixels from its middle: what is under it stays in sight. */
const HOLE = 4;
const ARM = 14;

const DIRECTIONS = new Map([
  ["ArrowLeft", [-1, 0]], ["ArrowRight", [1, 0]], ["ArrowUp", [0, -1]], ["ArrowDown", [0, 1]],
]);

export class KeyCursor {
  #on = false;
  #pressed = false;

  /**
   * @param {PointerInput} pointer
   * @param {Picture} picture
   * @param {() => Tool} tool
   * @param {(text: string) => void} info
   */
  constructor(pointer, picture, tool, info) {
    this.pointer = pointer;
    this.picture = picture;
    this.tool = tool;
    this.info = info;
    document.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
    pointer.element.addEventListener("pointerdown", () => this.#leave());
  }

  /** Show the cursor, or put it away. */
  toggle() {
    if (this.#on) return this.#leave();
    this.#on = true;
    this.#place();
    this.pointer.element.focus();
    this.info("Arrows move the cursor. Enter puts it down and lifts it. C ends.");
    this.picture.draw();
  }

  /** Where the cursor is; it begins in the middle of what is seen. */
  #place() {
    const { width, height } = this.picture.view.stage;
    return (this.pointer.at ??= this.picture.view.toFrame(width / 2, height / 2));
  }

  /**
   * Draw the cursor, whatever the tool shows besides.
   * @param {CanvasRenderingContext2D} context
   * @param {View} view
   */
  draw(context, view) {
    if (!this.#on) return;
    const { x, y } = view.toStage(this.#place());
    const path = new Path2D();
    for (const [dx, dy] of /** @type {[number, number][]} */ ([[1, 0], [-1, 0], [0, 1], [0, -1]])) {
      path.moveTo(x + dx * HOLE, y + dy * HOLE);
      path.lineTo(x + dx * ARM, y + dy * ARM);
    }
    context.lineCap = "butt";
    context.strokeStyle = "rgba(0,0,0,0.75)";
    context.lineWidth = 4;
    context.stroke(path);
    context.strokeStyle = this.#pressed ? "#ffd43b" : "#fff";
    context.lineWidth = 2;
    context.stroke(path);
  }

  #leave() {
    if (this.#pressed) this.tool().cancel();
    this.#on = this.#pressed = false;
    this.picture.draw();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const target = event.target;
    const free = target === document.body || target === this.pointer.element;
    if (!this.#on || !free || document.querySelector("dialog[open]")) return;
    const at = this.#place();
    const direction = DIRECTIONS.get(event.key);
    if (event.ctrlKey || event.metaKey) return;
    if (direction) {
      const [dx = 0, dy = 0] = direction;
      const step = Math.max(1, (event.shiftKey ? LEAP : STEP) / this.picture.view.scale);
      const { width, height } = this.picture.view.frame;
      const x = Math.min(width - 0.5, Math.max(0.5, at.x + dx * step));
      const y = Math.min(height - 0.5, Math.max(0.5, at.y + dy * step));
      this.pointer.at = { x, y };
      if (this.#pressed) this.tool().move([{ x, y, pressure: 0.5 }]);
    } else if (event.key === "Enter") {
      if (this.#pressed) {
        this.#pressed = false;
        this.tool().up();
      } else if (this.pointer.ready()) {
        this.#pressed = true;
        this.tool().down({ ...at, pressure: 0.5 }, !event.altKey, event.shiftKey);
      }
    } else if (event.key === "Escape") this.#leave();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
    this.picture.draw();
  }
}
