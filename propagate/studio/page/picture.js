/**
 * Draws the frame, the tint of the objects, their outlines and their names.
 * @import {ObjectInfo, Rect} from "./types.js"
 */

import { edgeOf, luminance, rgbOf } from "./colours.js";
import { onceARefresh } from "./dom.js";
import { apart, topsOf } from "./labels.js";
import { outlines } from "./outline.js";
import { TOP, View } from "./view.js";

/** @typedef {Uint8Array<ArrayBuffer>} Ids */

/** A mask of noise has so many lines that drawing them takes seconds; its tint is enough. */
const MOST_LINES = 30000;
/** CSS pixels. */
const NAME_HEIGHT = 20;

/**
 * @typedef {{
 *   objects: ObjectInfo[], active: number, solo: number, opacity: number,
 *   labels: boolean, masks: boolean,
 * }} Look
 */

export class Picture {
  view = new View();
  /** @type {ImageBitmap|null} */
  #bitmap = null;
  /** @type {Ids|null} */
  #ids = null;
  /** @type {Look} */
  #look = { objects: [], active: 0, solo: 0, opacity: 0.45, labels: true, masks: true };
  #tint = new OffscreenCanvas(1, 1);
  /** @type {ImageData|null} */
  #data = null;
  /** Colours by id, as the four bytes of a pixel. */
  #colours = new Uint32Array(256);
  /** @type {ReturnType<typeof outlines>|null} */
  #lines = null;
  /** Where names stand. @type {ReturnType<typeof topsOf>|null} */
  #tops = null;
  /** Draw at the next refresh of the screen. */
  draw = onceARefresh(() => {
    this.#drawNow();
    this.onDrawn();
  });
  /** Draws what the tools show. @type {(context: CanvasRenderingContext2D, view: View) => void} */
  onOverlay = () => undefined;
  /** Called after each drawing. @type {() => void} */
  onDrawn = () => undefined;

  /**
   * @param {HTMLCanvasElement} canvas  frame and masks
   * @param {HTMLCanvasElement} overlay  names, and what the tools show
   */
  constructor(canvas, overlay) {
    this.canvas = canvas;
    this.overlay = overlay;
    this.context = contextOf(canvas);
    this.overlayContext = contextOf(overlay);
  }

  /** Fit the canvases to the stage, in pixels of the screen. */
  resize() {
    const box = this.canvas.parentElement?.getBoundingClientRect();
    if (!box || !box.width || !box.height) return;
    const ratio = window.devicePixelRatio;
    for (const canvas of [this.canvas, this.overlay]) {
      const width = Math.round(box.width * ratio);
      const height = Math.round(box.height * ratio);
      if (canvas.width !== width) canvas.width = width;
      if (canvas.height !== height) canvas.height = height;
    }
    this.view.setStage(box.width, box.height);
    this.draw();
  }

  /**
   * @param {ImageBitmap|null} bitmap
   * @param {Ids|null} ids
   */
  show(bitmap, ids) {
    this.#bitmap = bitmap;
    if (bitmap && (this.view.frame.width !== bitmap.width || this.view.frame.height !== bitmap.height)) {
      this.view.setFrame(bitmap.width, bitmap.height);
    }
    this.setIds(ids);
  }

  /**
   * Show other ids, or the same array after pixels of a rectangle changed.
   * @param {Ids|null} ids
   * @param {Rect} [changed]
   */
  setIds(ids, changed) {
    this.#ids = ids;
    this.#lines = this.#tops = null;
    this.#paintTint(changed);
    this.draw();
  }

  /** @param {Partial<Look>} look */
  setLook(look) {
    const before = this.#look;
    this.#look = { ...before, ...look };
    if (before.objects !== this.#look.objects || before.solo !== this.#look.solo) this.#paintTint();
    this.draw();
  }

  /**
   * Which object a person sees at a pixel.
   * @param {number} x
   * @param {number} y
   */
  idAt(x, y) {
    const { width, height } = this.view.frame;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (!this.#ids || column < 0 || row < 0 || column >= width || row >= height) return 0;
    return this.#ids[row * width + column] ?? 0;
  }

  /** @param {Rect} [changed] */
  #paintTint(changed) {
    const ids = this.#ids;
    const { width, height } = this.view.frame;
    if (!ids || ids.length !== width * height) return;
    if (this.#tint.width !== width || this.#tint.height !== height || !this.#data) {
      this.#tint = new OffscreenCanvas(width, height);
      this.#data = new ImageData(width, height);
      changed = undefined;
    }
    if (!changed) this.#readColours();
    const pixels = new Uint32Array(this.#data.data.buffer);
    const { x0, y0, x1, y1 } = changed ?? { x0: 0, y0: 0, x1: width, y1: height };
    for (let y = y0; y < y1; y++) {
      for (let i = y * width + x0; i < y * width + x1; i++) {
        pixels[i] = /** @type {number} */ (this.#colours[/** @type {number} */ (ids[i])]);
      }
    }
    const context = this.#tint.getContext("2d");
    context?.putImageData(this.#data, 0, 0, x0, y0, x1 - x0, y1 - y0);
  }

  #readColours() {
    const bytes = new Uint8Array(this.#colours.buffer);
    bytes.fill(0);
    for (const { id, colour } of this.#visible()) bytes.set([...rgbOf(colour), 255], id * 4);
  }

  /**
   * Pixels of the canvas for each CSS pixel. A canvas has whole pixels, so this is not quite the
   * ratio of the screen; with it, what is drawn lies exactly where the pointer looks for it.
   */
  #ratios() {
    const { width, height } = this.view.stage;
    return [this.canvas.width / width, this.canvas.height / height];
  }

  #visible() {
    const { objects, solo } = this.#look;
    return solo ? objects.filter(({ id }) => id === solo) : objects;
  }

  #drawNow() {
    const { context, view } = this;
    const [across, down] = this.#ratios();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const scale = view.scale * across;
    // The tests and the curious read here where the picture is.
    Object.assign(this.canvas.dataset, { scale: view.scale, x: view.x, y: view.y });
    const bitmap = this.#bitmap;
    if (!bitmap) {
      this.#drawOverlay([]);
      return;
    }
    context.setTransform(scale, 0, 0, view.scale * down, view.x * across, view.y * down);
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0);
    if (!this.#look.masks || !this.#ids) {
      this.#drawOverlay([]);
      return;
    }
    context.globalAlpha = this.#look.opacity;
    context.drawImage(this.#tint, 0, 0);
    context.globalAlpha = 1;
    this.#lines ??= outlines(this.#ids, view.frame.width, view.frame.height);
    const shown = this.#visible().filter(({ id }) => this.#lines?.has(id));
    context.lineCap = "square";
    for (const { id, colour } of shown) {
      const { path, lines } = /** @type {import("./outline.js").Outline} */ (this.#lines.get(id));
      if (lines > MOST_LINES) continue;
      const strong = id === this.#look.active ? 1 : 0;
      context.strokeStyle = edgeOf(colour);
      context.lineWidth = (3 + strong) / view.scale;
      context.stroke(path);
      context.strokeStyle = colour;
      context.lineWidth = (1.5 + strong * 0.7) / view.scale;
      context.stroke(path);
    }
    this.#drawOverlay(shown);
  }

  /** @param {ObjectInfo[]} shown */
  #drawOverlay(shown) {
    const context = this.overlayContext;
    const [across, down] = this.#ratios();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    context.setTransform(across, 0, 0, down, 0, 0);
    this.#drawNames(context, this.#look.labels ? shown : []);
    this.onOverlay(context, this.view);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {ObjectInfo[]} shown
   */
  #drawNames(context, shown) {
    const { frame, stage } = this.view;
    context.font = "600 12px system-ui, sans-serif";
    const tops = shown.length && this.#ids ? (this.#tops ??= topsOf(this.#ids, frame.width, frame.height)) : new Map();
    const named = shown.filter(({ id }) => tops.has(id));
    // Names move up and down only, so that those of one column stay in order.
    named.sort((a, b) => tops.get(a.id).y - tops.get(b.id).y);
    const wanted = named.map(({ id, name }) => {
      const { x, y } = this.view.toStage(tops.get(id));
      const width = Math.ceil(context.measureText(name).width) + 14;
      return { x: x - width / 2, y: y - NAME_HEIGHT - 5, width, height: NAME_HEIGHT };
    });
    const room = { x: 4, y: TOP, width: stage.width - 8, height: stage.height - TOP - 4 };
    const places = apart(wanted, room);
    this.overlay.dataset["names"] = JSON.stringify(places.map(({ x, y, width, height }, i) => [named[i]?.id, x, y, width, height]));
    places.forEach((place, i) => {
      const object = /** @type {ObjectInfo} */ (named[i]);
      this.#drawName(context, object, place, this.view.toStage(tops.get(object.id)));
    });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {ObjectInfo} object
   * @param {import("./labels.js").Box} place
   * @param {import("./types.js").Point} top  of the object; a name that stands away from it gets a line
   */
  #drawName(context, { name, colour }, { x, y, width, height }, top) {
    context.strokeStyle = edgeOf(colour);
    context.lineWidth = 1;
    const middle = Math.min(x + width - 6, Math.max(x + 6, top.x));
    const away = top.y < y ? y - top.y : top.y - y - height;
    if (away > 8) {
      context.lineWidth = 2;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(middle, top.y < y ? y : y + height);
      context.lineTo(top.x, top.y);
      context.stroke();
      context.strokeStyle = edgeOf(colour);
      context.lineWidth = 1;
    }
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, width, height, 6);
    context.fill();
    context.stroke();
    context.fillStyle = luminance(rgbOf(colour)) > 0.3 ? "#111" : "#fff";
    context.textBaseline = "middle";
    context.fillText(name, x + 7, y + height / 2 + 1);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D}
 */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no 2D canvas.");
  return context;
}
