/** Moving to another frame: jumps to what is worth looking at. */

import { doubtful, nextOf } from "./doubt.js";
import { failed, info } from "./notices.js";

/** @typedef {import("./store.js").Store} Store */

/**
 * @param {Store} store
 * @param {import("./screen.js").Screen} screen
 * @param {() => void} pause  stops playing
 */
export function movesOf(store, screen, pause) {
  /** @param {number} frame */
  const jump = (frame) => {
    pause();
    store.set({ watching: false });
    screen.goTo(frame).catch(failed);
  };
  /** @type {(frames: number[], what: string, direction: 1|-1) => void} */
  const jumpIn = (frames, what, direction) => {
    const found = nextOf(frames, store.state.frame, direction);
    if (found === null) info(`No ${what} ${direction > 0 ? "after" : "before"} this ${what.endsWith("frame") ? "one" : "frame"}.`);
    else jump(found);
  };
  return {
    jump,
    /** @param {1|-1} direction */
    jumpToDoubt(direction) {
      const { tracks, project, solo } = store.state;
      if (!project) return;
      const ids = new Set(solo ? [solo] : project.objects.map(({ id }) => id));
      jumpIn(doubtful(tracks, ids), "doubtful frame", direction);
    },
    /** @param {1|-1} direction */
    jumpToReference(direction) {
      const { project } = store.state;
      if (!project) return;
      const named = Object.keys(project.references).map(Number).sort((a, b) => a - b);
      jumpIn(named, "reference", direction);
    },
  };
}
