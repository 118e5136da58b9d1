/**
 * The plain brush and the eraser.
 * @import {PenPoint} from "./types.js"
 * @import {Host, Tool} from "./tool.js"
 */

import { capsule } from "./shapes.js";
import { activeColour, drawRing, radiusAt } from "./tool.js";

/**
 * @param {Host} host
 * @param {boolean} erases
 * @returns {Tool}
 */
export function brushTool(host, erases) {
  /** @type {import("./draft.js").Draft|null} */
  let draft = null;
  /** @type {PenPoint|null} */
  let last = null;
  let id = 0;

  /** @param {PenPoint} point */
  const paint = (point) => {
    if (!draft) return;
    const { width, height } = host.store.project;
    const radius = radiusAt(host.store.state, point);
    capsule(width, height, last ?? point, point, radius, draft.painter(id));
    last = point;
  };
  const show = () => {
    const changed = draft?.takeChanged();
    if (draft && changed) host.picture.setIds(draft.ids, changed);
  };

  return {
    down(point, on) {
      draft = host.editor.begin();
      id = on !== erases ? host.store.state.active : 0;
      last = null;
      paint(point);
      show();
    },
    move(points) {
      for (const point of points) paint(point);
      show();
    },
    up() {
      if (draft) host.editor.finish(draft, id ? "Brush stroke" : "Erase");
      draft = null;
    },
    cancel() {
      if (draft) {
        host.picture.setIds(draft.before);
        host.editor.giveUp();
      }
      draft = null;
    },
    key: () => false,
    draw(context, view, pointer) {
      const { state } = host.store;
      drawRing(context, view, pointer, state.radius, erases ? "#ffffff" : activeColour(state));
    },
  };
}
