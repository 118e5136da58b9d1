/**
 * The timeline: what is known of each object on each frame.
 * @import {Project, Range, Track} from "./types.js"
 */

import { doubtful, LOW_MARGIN } from "./doubt.js";
import { make, onceARefresh } from "./dom.js";
import { contextOf } from "./picture.js";

const RULER = 26;
const ROW = 24;
const PAD = 10;
const FOOT = 4;

/** @typedef {import("./store.js").Store} Store */

/** Colours of the theme, read from the style sheet. */
/** @typedef {{text: string, faint: string, line: string, accent: string, warn: string, surface: string}} Ink */

export class Timeline {
  /** Draw at the next refresh of the screen. */
  draw = onceARefresh(() => this.#drawNow());
  /** The doubtful frames of the tracks that were drawn last. */
  #doubts = { tracks: {}, objects: /** @type {unknown} */ (null), frames: /** @type {number[]} */ ([]) };

  /**
   * @param {HTMLElement} element  holds names and canvas; scrolls if there are many rows. The canvas
   *   is as large as what is seen of it, and draws the rows that are in sight.
   * @param {Store} store
   * @param {(frame: number) => void} scrub
   * @param {(id: number) => void} choose
   */
  constructor(element, store, scrub, choose) {
    this.element = element;
    this.store = store;
    this.canvas = make("canvas", {
      tabindex: "0", role: "slider", "aria-label": "Frame", "aria-valuemin": "0",
    });
    this.names = make("div", { class: "track-names" });
    this.choose = choose;
    element.append(this.names, this.canvas);
    this.context = contextOf(this.canvas);

    /** @param {PointerEvent} event */
    const move = (event) => scrub(this.#frameAt(event));
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) move(event);
      this.canvas.title = this.#tip(event);
    });
    element.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(element);
    store.watch(["project", "frame", "tracks", "active", "solo"], () => this.draw());
  }

  /** @param {Project} project */
  #count(project) {
    return Math.max(1, project.frame_count);
  }

  /** @param {MouseEvent} event */
  #frameAt(event) {
    const { project } = this.store.state;
    if (!project) return 0;
    const box = this.canvas.getBoundingClientRect();
    const count = this.#count(project);
    const at = Math.floor(((event.clientX - box.left - PAD) / (box.width - 2 * PAD)) * count);
    return Math.min(count - 1, Math.max(0, at));
  }

  /** @param {MouseEvent} event */
  #tip(event) {
    const { project, tracks } = this.store.state;
    if (!project) return "";
    const frame = this.#frameAt(event);
    const box = this.canvas.getBoundingClientRect();
    const y = event.clientY - box.top - RULER;
    const row = Math.floor((y + this.element.scrollTop) / ROW);
    const object = y >= 0 ? project.objects[row] : undefined;
    if (!object) return `Frame ${frame}`;
    const track = tracks[String(object.id)];
    const words = { t: "tracked", u: "unsure", a: "absent" };
    const state = track?.state[frame];
    if (!track || !state) return `${object.name}, frame ${frame}`;
    const number = (/** @type {number|null|undefined} */ value) => value?.toFixed(2) ?? "-";
    const { score, margin } = track;
    return `${object.name}, frame ${frame}: ${words[state]}, score ${number(score[frame])}, margin ${number(margin[frame])}`;
  }

  /** @param {Project} project */
  #drawNames(project) {
    const { active } = this.store.state;
    const key = JSON.stringify([project.objects, active]);
    if (this.names.dataset["key"] === key) return;
    this.names.dataset["key"] = key;
    const rows = project.objects.map(({ id, name, colour }) => {
      const dot = make("span", { class: "dot" });
      dot.style.background = colour;
      const row = make("button", { type: "button", tabindex: "-1", title: name }, dot, name);
      row.classList.toggle("active", id === active);
      row.addEventListener("click", () => this.choose(id));
      return row;
    });
    this.names.replaceChildren(make("div", { class: "ruler-space" }), ...rows);
  }

  #doubtful() {
    const { tracks, project } = this.store.state;
    const objects = project?.objects ?? [];
    if (this.#doubts.tracks !== tracks || this.#doubts.objects !== objects) {
      const frames = doubtful(tracks, new Set(objects.map(({ id }) => id)));
      this.#doubts = { tracks, objects, frames };
    }
    return this.#doubts.frames;
  }

  /** @returns {Ink} */
  #ink() {
    const style = getComputedStyle(this.element);
    const of = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    return {
      text: of("--text-soft"), faint: of("--text-faint"), line: of("--line"),
      accent: of("--accent"), warn: of("--warn"), surface: of("--surface"),
    };
  }

  #drawNow() {
    const { project, frame, tracks, active, solo } = this.store.state;
    const { context, canvas } = this;
    if (!project) return;
    this.#drawNames(project);
    this.element.style.height = `${RULER + ROW * Math.max(1, project.objects.length) + FOOT}px`;
    const ratio = window.devicePixelRatio;
    const width = this.element.clientWidth - this.names.offsetWidth;
    const height = this.element.clientHeight;
    const scrolled = this.element.scrollTop;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const count = this.#count(project);
    canvas.setAttribute("aria-valuemax", String(count - 1));
    canvas.setAttribute("aria-valuenow", String(frame));
    const ink = this.#ink();
    const step = (width - 2 * PAD) / count;
    /** @param {number} at */
    const x = (at) => PAD + at * step;

    this.#drawRuler(ink, count, step, width);
    for (const range of project.computed) {
      context.fillStyle = ink.accent;
      context.fillRect(x(range[0]), RULER - 5, (range[1] - range[0] + 1) * step, 3);
    }
    context.save();
    context.beginPath();
    context.rect(0, RULER, width, height - RULER);
    context.clip();
    project.objects.forEach(({ id, colour }, row) => {
      const top = RULER + row * ROW - scrolled;
      if (top < RULER - ROW || top > height) return;
      context.globalAlpha = solo && solo !== id ? 0.3 : 1;
      context.fillStyle = ink.surface;
      context.fillRect(PAD, top + 2, width - 2 * PAD, ROW - 4);
      if (id === active) {
        context.strokeStyle = ink.faint;
        context.lineWidth = 1;
        context.strokeRect(PAD - 0.5, top + 1.5, width - 2 * PAD + 1, ROW - 3);
      }
      const track = tracks[String(id)];
      if (track) this.#drawTrack(track, colour, ink, top, count, step);
    });
    context.globalAlpha = 1;
    const bottom = Math.min(height, RULER + project.objects.length * ROW - scrolled);
    for (const range of project.stale) this.#drawStale(range, ink, step, bottom);
    this.#drawReferences(project, ink, x, step, scrolled);
    context.restore();
    for (const at of this.#doubtful()) {
      const middle = x(at + 0.5);
      context.fillStyle = ink.warn;
      context.beginPath();
      context.moveTo(middle, RULER - 6);
      context.lineTo(middle - 4, RULER - 13);
      context.lineTo(middle + 4, RULER - 13);
      context.fill();
    }
    this.#drawHead(ink, x(frame), step, height, frame, width);
  }

  /**
   * @param {Ink} ink
   * @param {number} count
   * @param {number} step
   * @param {number} width
   */
  #drawRuler(ink, count, step, width) {
    const { context } = this;
    context.fillStyle = ink.line;
    context.fillRect(PAD, RULER - 5, width - 2 * PAD, 3);
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000]
      .find((each) => each * step >= 64) ?? count;
    context.font = "10.5px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.fillStyle = ink.faint;
    for (let at = 0; at < count; at += every) {
      context.fillText(String(at), Math.max(PAD + 6, PAD + (at + 0.5) * step), 8);
    }
  }

  /**
   * One bar a frame, or a pixel: as high as the score, hollow where the object is absent. A line below tells
   * a low margin. Where several frames share a pixel, the one of most doubt shows.
   * @param {Track} track
   * @param {string} colour
   * @param {Ink} ink
   * @param {number} top
   * @param {number} count
   * @param {number} step
   */
  #drawTrack(track, colour, ink, top, count, step) {
    const { context } = this;
    const bottom = top + ROW - 4;
    const tall = ROW - 8;
    const wide = Math.max(1, step);
    const stride = Math.max(1, Math.floor(1 / step));
    for (let first = 0; first < count; first += stride) {
      let at = first;
      for (let i = first + 1; i < Math.min(count, first + stride); i++) {
        if (doubtOf(track, i) > doubtOf(track, at)) at = i;
      }
      const state = track.state[at];
      if (!state) continue;
      const left = PAD + first * step;
      const gap = wide > 6 ? 1 : 0;
      if (state === "a") {
        context.strokeStyle = ink.faint;
        context.lineWidth = 1;
        context.beginPath();
        context.moveTo(left, bottom - 0.5);
        context.lineTo(left + wide, bottom - 0.5);
        context.moveTo(left, bottom - tall + 0.5);
        context.lineTo(left + wide, bottom - tall + 0.5);
        context.stroke();
        continue;
      }
      const score = Math.min(1, Math.max(0.06, track.score[at] ?? 0));
      context.fillStyle = colour;
      const alpha = context.globalAlpha;
      if (state === "u") context.globalAlpha = alpha * 0.45;
      context.fillRect(left, bottom - tall * score, wide - gap, tall * score);
      context.globalAlpha = alpha;
      if ((track.margin[at] ?? 1) < LOW_MARGIN) {
        context.fillStyle = ink.warn;
        context.fillRect(left, bottom, wide - gap, 2);
      }
    }
  }

  /**
   * @param {Range} range
   * @param {Ink} ink
   * @param {number} step
   * @param {number} height
   */
  #drawStale([first, last], ink, step, height) {
    const { context } = this;
    const [x0, x1] = [PAD + first * step, PAD + (last + 1) * step];
    context.save();
    context.beginPath();
    context.rect(x0, RULER, x1 - x0, height - RULER);
    context.clip();
    context.strokeStyle = ink.text;
    context.globalAlpha = 0.45;
    context.lineWidth = 1.2;
    context.beginPath();
    for (let x = x0 - height; x < x1; x += 7) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
    context.restore();
  }

  /**
   * @param {Project} project
   * @param {Ink} ink
   * @param {(at: number) => number} x
   * @param {number} step
   * @param {number} scrolled
   */
  #drawReferences(project, ink, x, step, scrolled) {
    const { context } = this;
    for (const [name, ids] of Object.entries(project.references)) {
      const middle = x(Number(name)) + step / 2;
      /** @type {[number, string][]} */
      const places = [];
      project.objects.forEach(({ id, colour }, row) => {
        if (ids.includes(id)) places.push([RULER + row * ROW + ROW / 2 - 1 - scrolled, colour]);
      });
      if (!ids.length) places.push([RULER + 5, ink.text]);
      for (const [y, colour] of places) {
        const size = ids.length ? 6.5 : 5;
        context.beginPath();
        context.moveTo(middle, y - size);
        context.lineTo(middle + size, y);
        context.lineTo(middle, y + size);
        context.lineTo(middle - size, y);
        context.closePath();
        context.fillStyle = colour;
        context.fill();
        context.strokeStyle = "rgba(0,0,0,0.85)";
        context.lineWidth = 2.5;
        context.stroke();
        context.strokeStyle = "#fff";
        context.lineWidth = 1.2;
        context.stroke();
      }
    }
  }

  /**
   * @param {Ink} ink
   * @param {number} x
   * @param {number} step
   * @param {number} height
   * @param {number} frame
   * @param {number} width
   */
  #drawHead(ink, x, step, height, frame, width) {
    const { context } = this;
    if (step > 3) {
      context.fillStyle = ink.accent;
      context.globalAlpha = 0.22;
      context.fillRect(x, RULER - 5, step, height - RULER + 5);
      context.globalAlpha = 1;
    }
    const middle = x + step / 2;
    context.fillStyle = ink.accent;
    context.fillRect(middle - 1, 14, 2, height - 14);
    const text = String(frame);
    context.font = "600 11px system-ui, sans-serif";
    const wide = context.measureText(text).width + 12;
    const left = Math.min(width - wide, Math.max(0, middle - wide / 2));
    context.beginPath();
    context.roundRect(left, 0, wide, 16, 5);
    context.fill();
    context.fillStyle = "#fff";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, left + wide / 2, 8.5);
  }
}

/**
 * @param {Track} track
 * @param {number} at
 */
function doubtOf(track, at) {
  const state = track.state[at];
  if (!state) return -1;
  if (state === "a") return 3;
  return (state === "u" ? 2 : 0) + 1 - (track.margin[at] ?? 1);
}
