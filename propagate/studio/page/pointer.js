/**
 * Mouse, pen and touch on the picture: painting, panning, zooming.
 * @import {PenPoint, Point} from "./types.js"
 * @import {Tool} from "./tool.js"
 * @import {Picture} from "./picture.js"
 */

/** How far a finger moves before it paints: until then a second finger may come to zoom. CSS pixels. */
const TOUCH_STEP = 5;

/** Buttons of a pointer: right, middle, and the eraser of a pen. */
const RIGHT = 2;
const MIDDLE = 1;
const ERASER = 5;

export class PointerInput {
  /** Where the mouse is, in pixels of the frame. @type {Point|null} */
  at = null;
  /** Whether the space bar is down: dragging moves the picture. */
  spaceDown = false;
  /** Whether something was dragged since the space bar went down. */
  dragged = false;
  /** Fingers and buttons that are down, in CSS pixels of the stage. @type {Map<number, Point>} */
  #down = new Map();
  /** @type {"none"|"paint"|"pan"|"pinch"} */
  #mode = "none";
  #painter = -1;
  /** The start of a stroke by touch that has not moved yet. @type {{at: Point, begin: () => void}|null} */
  #pending = null;

  /**
   * @param {HTMLElement} element
   * @param {Picture} picture
   * @param {() => Tool} tool
   * @param {() => boolean} ready  called before a stroke: whether it may begin
   */
  constructor(element, picture, tool, ready) {
    this.element = element;
    this.picture = picture;
    this.tool = tool;
    this.ready = ready;
    element.addEventListener("pointerdown", (event) => this.#onDown(event));
    element.addEventListener("pointermove", (event) => this.#onMove(event));
    element.addEventListener("pointerup", (event) => this.#onUp(event, false));
    element.addEventListener("pointercancel", (event) => this.#onUp(event, true));
    element.addEventListener("pointerleave", () => {
      this.at = null;
      this.picture.draw();
    });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
  }

  get painting() {
    return this.#mode === "paint";
  }

  /** Give up the stroke that is being painted. */
  cancel() {
    if (this.#mode !== "paint") return;
    this.tool().cancel();
    this.#mode = "none";
  }

  /** @param {MouseEvent} event  @returns {Point} CSS pixels of the stage */
  #stagePoint(event) {
    const box = this.element.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** @param {PointerEvent} event  @returns {PenPoint} */
  #penPoint(event) {
    const { x, y } = this.#stagePoint(event);
    // A mouse has no pressure: half is the plain radius.
    const pressure = event.pointerType === "pen" ? event.pressure : 0.5;
    return { ...this.picture.view.toFrame(x, y), pressure };
  }

  /** @param {PointerEvent} event */
  #onDown(event) {
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    this.#down.set(event.pointerId, this.#stagePoint(event));
    if (this.#down.size === 2) {
      this.#pending = null;
      this.cancel();
      this.#mode = "pinch";
      return;
    }
    if (this.#down.size > 2) return;
    if (event.button === MIDDLE || this.spaceDown) {
      this.#mode = "pan";
      this.dragged = true;
      this.element.classList.add("panning");
      return;
    }
    const off = event.button === RIGHT || event.button === ERASER || event.altKey;
    const point = this.#penPoint(event);
    const begin = () => {
      if (!this.ready()) return;
      this.#mode = "paint";
      this.#painter = event.pointerId;
      this.tool().down(point, !off, event.shiftKey);
    };
    if (event.pointerType === "touch") this.#pending = { at: this.#stagePoint(event), begin };
    else begin();
  }

  /** Begin the stroke of a finger. */
  #beginPending() {
    this.#pending?.begin();
    this.#pending = null;
  }

  /** @param {PointerEvent} event */
  #onMove(event) {
    const now = this.#stagePoint(event);
    if (event.pointerType !== "touch") this.at = this.picture.view.toFrame(now.x, now.y);
    const before = this.#down.get(event.pointerId);
    if (this.#pending) {
      const { at } = this.#pending;
      if (Math.hypot(now.x - at.x, now.y - at.y) < TOUCH_STEP) return;
      this.#beginPending();
    }
    if (this.#mode === "pan" && before) {
      this.picture.view.pan(now.x - before.x, now.y - before.y);
    } else if (this.#mode === "pinch" && before) this.#pinch(event.pointerId, before, now);
    else if (this.#mode === "paint" && event.pointerId === this.#painter) {
      const events = event.getCoalescedEvents?.() ?? [];
      this.tool().move((events.length ? events : [event]).map((each) => this.#penPoint(each)));
    }
    if (before) this.#down.set(event.pointerId, now);
    this.picture.draw();
  }

  /**
   * @param {number} pointer
   * @param {Point} before
   * @param {Point} now
   */
  #pinch(pointer, before, now) {
    const [other] = [...this.#down].filter(([id]) => id !== pointer).map(([, point]) => point);
    if (!other) return;
    const { view } = this.picture;
    view.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(now.x - other.x, now.y - other.y);
    if (was > 1) view.zoom(is / was, (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  /**
   * @param {PointerEvent} event
   * @param {boolean} lost
   */
  #onUp(event, lost) {
    this.#down.delete(event.pointerId);
    if (lost) this.#pending = null;
    else this.#beginPending();
    this.element.classList.remove("panning");
    if (this.#mode === "paint" && event.pointerId === this.#painter) {
      if (lost) this.tool().cancel();
      else this.tool().up();
    }
    if (this.#mode !== "pinch" || this.#down.size === 0) this.#mode = "none";
    this.picture.draw();
  }

  /** @param {WheelEvent} event */
  #onWheel(event) {
    event.preventDefault();
    const { view } = this.picture;
    const { x, y } = this.#stagePoint(event);
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    // Browsers count a notch of the wheel in pixels of the screen.
    const delta = event.deltaY * lines * window.devicePixelRatio;
    // Two fingers on a trackpad move in small steps and sideways; a pinch comes with Ctrl.
    const fingers = !event.ctrlKey && (event.deltaX !== 0 || Math.abs(delta) < 40);
    if (fingers) view.pan(-event.deltaX * lines, -event.deltaY * lines);
    else view.zoom(Math.exp(-delta * (event.ctrlKey && Math.abs(delta) < 40 ? 0.01 : 0.002)), x, y);
    this.at = view.toFrame(x, y);
    this.picture.draw();
  }
}
