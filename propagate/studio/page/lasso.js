/**
 * The polygon: click corner by corner, or drag around the object.
 * @import {PenPoint, Point} from "./types.js"
 * @import {Host, Tool} from "./tool.js"
 */

import { polygon } from "./shapes.js";
import { activeColour } from "./tool.js";

/** How near to the first corner a click closes the polygon, and how far a drag goes between corners; CSS pixels. */
const CLOSE_PX = 10;
const STEP_PX = 4;

/**
 * @param {Host} host
 * @returns {Tool}
 */
export function polygonTool(host) {
  /** @type {Point[]} */
  let corners = [];
  let adds = true;
  let frame = -1;

  /** @type {(a: Point, b: Point) => number} */
  const apart = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) * host.picture.view.scale;
  const forget = () => {
    corners = [];
    host.picture.draw();
  };
  const close = () => {
    const draft = corners.length >= 3 && frame === host.store.state.frame ? host.editor.begin() : null;
    if (draft) {
      const { width, height } = host.store.project;
      polygon(width, height, corners, draft.painter(adds ? host.store.state.active : 0));
      if (host.editor.finish(draft, adds ? "Polygon" : "Cut polygon")) host.picture.setIds(draft.ids);
    }
    forget();
  };

  return {
    down(point, on) {
      if (frame !== host.store.state.frame) corners = [];
      frame = host.store.state.frame;
      const first = corners[0];
      const before = corners.at(-1);
      if (first && corners.length >= 3 && apart(first, point) < CLOSE_PX) return close();
      if (before && apart(before, point) < 2) return close(); // a double click
      if (!first) adds = on === host.store.state.dabOn;
      corners.push({ x: point.x, y: point.y });
      host.picture.draw();
    },
    move(points) {
      for (const point of points) {
        const before = corners.at(-1);
        if (before && apart(before, point) >= STEP_PX) corners.push({ x: point.x, y: point.y });
      }
      host.picture.draw();
    },
    up() {
      const first = corners[0];
      const last = corners.at(-1);
      // A drag that comes back to where it began is closed.
      if (first && last && corners.length > 8 && apart(first, last) < CLOSE_PX) close();
    },
    cancel: forget,
    key(key) {
      if (!corners.length) return false;
      if (key === "Enter") close();
      else if (key === "Backspace") {
        corners.pop();
        host.picture.draw();
      } else forget();
      return true;
    },
    draw(context, view, pointer) {
      if (!corners.length || frame !== host.store.state.frame) return;
      const shown = corners.map((corner) => view.toStage(corner));
      const first = /** @type {Point} */ (shown[0]);
      const end = pointer ? [view.toStage(pointer)] : [];
      const path = new Path2D();
      [...shown, ...end].forEach((p, i) => (i ? path.lineTo(p.x, p.y) : path.moveTo(p.x, p.y)));
      const colour = adds ? activeColour(host.store.state) : "#ffffff";
      context.lineJoin = "round";
      context.strokeStyle = "rgba(0,0,0,0.7)";
      context.lineWidth = 4;
      context.stroke(path);
      context.strokeStyle = colour;
      context.lineWidth = 2;
      context.stroke(path);
      context.beginPath();
      context.arc(first.x, first.y, 5, 0, 2 * Math.PI);
      context.fillStyle = colour;
      context.fill();
      context.strokeStyle = "rgba(0,0,0,0.8)";
      context.lineWidth = 1.5;
      context.stroke();
    },
  };
}
