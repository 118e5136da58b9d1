/**
 * Where the picture lies on the screen: zoom and place.
 * @import {Point} from "./types.js"
 */

const MOST_SCALE = 64;
/** Room around a picture that is shown whole, CSS pixels; above it are the options of the tool and the zoom. */
const MARGIN = 12;
export const TOP = 56;

export class View {
  /** CSS pixels for each pixel of the frame. */
  scale = 1;
  /** Place of the frame's corner in the stage, in CSS pixels. */
  x = 0;
  y = 0;
  /** Whether the picture follows the size of the stage. */
  fitted = true;
  frame = { width: 1, height: 1 };
  stage = { width: 1, height: 1 };

  /**
   * @param {number} width
   * @param {number} height
   */
  setFrame(width, height) {
    this.frame = { width, height };
    this.fit();
  }

  /**
   * @param {number} width  CSS pixels
   * @param {number} height
   */
  setStage(width, height) {
    this.stage = { width, height };
    if (this.fitted) this.fit();
    else this.#hold();
  }

  /** Show the whole frame. */
  fit() {
    this.fitted = true;
    this.scale = this.#fitScale();
    this.#centre();
  }

  #fitScale() {
    return Math.max(
      0.01,
      Math.min(
        (this.stage.width - 2 * MARGIN) / this.frame.width,
        (this.stage.height - TOP - MARGIN) / this.frame.height,
      ),
    );
  }

  #centre() {
    this.x = (this.stage.width - this.frame.width * this.scale) / 2;
    this.y = TOP + (this.stage.height - TOP - MARGIN - this.frame.height * this.scale) / 2;
  }

  /**
   * Zoom around a point of the stage, which stays where it is.
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   */
  zoom(factor, x, y) {
    this.zoomTo(this.scale * factor, x, y);
  }

  /**
   * @param {number} wanted  CSS pixels for each pixel
   * @param {number} x
   * @param {number} y
   */
  zoomTo(wanted, x, y) {
    const least = Math.min(1, this.#fitScale()) / 2;
    const scale = Math.min(MOST_SCALE, Math.max(least, wanted));
    const at = this.toFrame(x, y);
    this.scale = scale;
    this.x = x - at.x * scale;
    this.y = y - at.y * scale;
    this.fitted = false;
    this.#hold();
  }

  /**
   * @param {number} dx
   * @param {number} dy
   */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#hold();
  }

  /** Keep a part of the picture in sight. */
  #hold() {
    const keep = 60;
    const { width, height } = this.stage;
    this.x = Math.min(width - keep, Math.max(keep - this.frame.width * this.scale, this.x));
    this.y = Math.min(height - keep, Math.max(keep - this.frame.height * this.scale, this.y));
  }

  /**
   * @param {number} x  CSS pixels in the stage
   * @param {number} y
   * @returns {Point} pixels of the frame; outside of the frame too
   */
  toFrame(x, y) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  /**
   * @param {Point} point  pixels of the frame
   * @returns {Point} CSS pixels in the stage
   */
  toStage(point) {
    return { x: point.x * this.scale + this.x, y: point.y * this.scale + this.y };
  }
}
