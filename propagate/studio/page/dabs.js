/**
 * The tools that ask the server: the smart brush and the box.
 * @import {PenPoint} from "./types.js"
 * @import {Host, Tool} from "./tool.js"
 * @import {Prompter} from "./prompter.js"
 * @import {View} from "./view.js"
 */

import { boxOf } from "./shapes.js";
import { activeColour, drawRing, radiusAt } from "./tool.js";

/** The most points of a dab that are sent. */
const MOST_POINTS = 400;

/**
 * @param {Host} host
 * @param {Prompter} prompter
 * @returns {Tool}
 */
export function smartTool(host, prompter) {
  /** @type {[number, number][]} */
  let points = [];
  let on = true;
  let radius = 1;
  let drawing = false;

  /** @param {PenPoint} point */
  const add = (point) => {
    const { width, height } = host.store.project;
    const x = Math.min(width - 0.01, Math.max(0, point.x));
    const y = Math.min(height - 0.01, Math.max(0, point.y));
    const last = points.at(-1);
    if (!last || Math.hypot(last[0] - x, last[1] - y) >= Math.max(0.5, radius / 4)) points.push([x, y]);
  };
  const forget = () => {
    drawing = false;
    points = [];
    host.picture.draw();
  };

  return {
    down(point, isOn) {
      if (!host.editor.begin()) return;
      points = [];
      drawing = true;
      on = isOn === host.store.state.dabOn;
      radius = radiusAt(host.store.state, point);
      add(point);
      host.picture.draw();
    },
    move(more) {
      if (drawing) more.forEach(add);
      host.picture.draw();
    },
    up() {
      if (!drawing) return;
      const every = Math.ceil(points.length / MOST_POINTS);
      const sent = points.filter((_, i) => i % every === 0 || i === points.length - 1);
      prompter.ask({ kind: "stroke", points: sent, radius, on });
      forget();
    },
    cancel() {
      if (drawing) host.editor.giveUp();
      forget();
    },
    key: () => false,
    draw(context, view, pointer) {
      const { state } = host.store;
      for (const { frame, prompt } of prompter.waiting) {
        if (frame === state.frame && prompt.kind === "stroke") {
          drawDab(context, view, prompt.points, prompt.radius, prompt.on, activeColour(state));
        }
      }
      if (drawing) drawDab(context, view, points, radius, on, activeColour(state));
      drawRing(context, view, pointer, state.radius, state.dabOn ? activeColour(state) : "#ffffff");
      if (pointer) drawSign(context, view.toStage(pointer), state.dabOn);
    },
  };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {[number, number][]} points
 * @param {number} radius
 * @param {boolean} on
 * @param {string} colour
 */
function drawDab(context, view, points, radius, on, colour) {
  const path = new Path2D();
  points.forEach(([x, y], i) => {
    const p = view.toStage({ x, y });
    if (i === 0) path.moveTo(p.x, p.y);
    path.lineTo(p.x, p.y);
  });
  context.save();
  context.lineCap = context.lineJoin = "round";
  context.globalAlpha = 0.75;
  context.lineWidth = Math.max(3, radius * 2 * view.scale);
  context.strokeStyle = on ? colour : "#14161a";
  context.stroke(path);
  context.restore();
}

/**
 * A plus or a minus in the ring.
 * @param {CanvasRenderingContext2D} context
 * @param {import("./types.js").Point} at
 * @param {boolean} on
 */
function drawSign(context, { x, y }, on) {
  const path = new Path2D();
  path.moveTo(x - 4, y);
  path.lineTo(x + 4, y);
  if (on) {
    path.moveTo(x, y - 4);
    path.lineTo(x, y + 4);
  }
  context.strokeStyle = "rgba(0,0,0,0.8)";
  context.lineWidth = 3.5;
  context.stroke(path);
  context.strokeStyle = "#fff";
  context.lineWidth = 1.5;
  context.stroke(path);
}

/**
 * A box around the object. With Shift, the box itself is filled.
 * @param {Host} host
 * @param {Prompter} prompter
 * @returns {Tool}
 */
export function boxTool(host, prompter) {
  /** @type {PenPoint|null} */
  let from = null;
  /** @type {PenPoint|null} */
  let to = null;
  let fills = false;
  let on = true;
  const forget = () => {
    from = to = null;
    host.picture.draw();
  };

  return {
    down(point, isOn, plain) {
      if (!host.editor.begin()) return;
      from = to = point;
      fills = plain || !isOn;
      on = isOn;
    },
    move(points) {
      if (from) to = points.at(-1) ?? to;
      host.picture.draw();
    },
    up() {
      if (!from || !to) return;
      const { width, height } = host.store.project;
      const box = boxOf(width, height, from, to);
      forget();
      if (box.x1 - box.x0 < 2 || box.y1 - box.y0 < 2) {
        host.info("Drag a box around the object.");
        host.editor.giveUp();
      } else if (fills) {
        const draft = host.editor.begin();
        if (!draft) return;
        const paint = draft.painter(on ? host.store.state.active : 0);
        for (let y = box.y0; y < box.y1; y++) paint(y, box.x0, box.x1);
        if (host.editor.finish(draft, "Fill box")) host.picture.setIds(draft.ids);
      } else prompter.ask({ kind: "box", box: [box.x0, box.y0, box.x1, box.y1] });
    },
    cancel() {
      if (from) host.editor.giveUp();
      forget();
    },
    key: () => false,
    draw(context, view) {
      const { state } = host.store;
      const { width, height } = host.store.project;
      for (const { frame, prompt } of prompter.waiting) {
        if (frame !== state.frame || prompt.kind !== "box") continue;
        const [x0, y0, x1, y1] = prompt.box;
        drawBox(context, view, { x0, y0, x1, y1 }, activeColour(state));
      }
      if (from && to) drawBox(context, view, boxOf(width, height, from, to), activeColour(state));
    },
  };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {import("./types.js").Rect} box
 * @param {string} colour
 */
function drawBox(context, view, box, colour) {
  const a = view.toStage({ x: box.x0, y: box.y0 });
  const b = view.toStage({ x: box.x1, y: box.y1 });
  for (const [style, line] of /** @type {[string, number][]} */ ([["rgba(0,0,0,0.7)", 4], [colour, 2]])) {
    context.strokeStyle = style;
    context.lineWidth = line;
    context.strokeRect(a.x, a.y, b.x - a.x, b.y - a.y);
  }
}
