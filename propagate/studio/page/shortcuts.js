/**
 * Which key does what.
 * @import {Shortcut} from "./keyboard.js"
 * @import {ToolName} from "./types.js"
 */

/**
 * What the page can do; buttons and keys call these.
 * @typedef {{
 *   store: import("./store.js").Store,
 *   open: () => void, undo: () => void, redo: () => void,
 *   chooseTool: (tool: ToolName) => void,
 *   toggleFollow: () => void, play: () => void,
 *   jump: (frame: number) => void,
 *   jumpToDoubt: (direction: 1|-1) => void, jumpToReference: (direction: 1|-1) => void,
 *   zoom: (factor: number) => void, fit: () => void, actualSize: () => void,
 *   add: () => void, rename: () => void, solo: () => unknown, lock: () => unknown,
 *   swap: () => unknown, deleteObject: () => void, deleteReference: () => void,
 *   import: () => void, export: () => unknown, watch: () => void,
 *   theme: () => void, help: () => void, cursor: () => unknown, toolKey: (key: string) => void,
 * }} Commands
 */

/**
 * @param {Commands} page
 * @returns {Shortcut[]}
 */
export function shortcuts(page) {
  const { store } = page;
  /** @param {number} by */
  const step = (by) => () => page.jump(store.state.frame + by);
  /** @param {number} factor */
  const size = (factor) => () => {
    const { radius } = store.state;
    const next = factor > 1 ? Math.max(radius + 0.5, radius * factor) : Math.min(radius - 0.5, radius * factor);
    store.set({ radius: Math.min(500, Math.max(0.5, Math.round(next * 2) / 2)) });
  };
  /** @param {number} by */
  const neighbour = (by) => () => {
    const objects = store.state.project?.objects ?? [];
    const at = objects.findIndex(({ id }) => id === store.state.active);
    const next = objects[(at + by + objects.length) % objects.length];
    if (next) store.set({ active: next.id });
  };
  const digits = Array.from({ length: 9 }, (_, i) => ({
    keys: [String(i + 1)],
    act: () => {
      const object = store.state.project?.objects[i];
      if (object) store.set({ active: object.id });
    },
  }));
  /** @type {(group: string, what: string, keys: string[], act: () => void) => Shortcut} */
  const key = (group, what, keys, act) => ({ group, what, keys, act });
  const [first, ...others] = digits;
  return [
    key("Follow", "follow, stop", ["f"], page.toggleFollow),
    key("Follow", "show frames as they are computed", ["w"], page.watch),
    key("Follow", "next doubtful frame", ["n"], () => page.jumpToDoubt(1)),
    key("Follow", "previous doubtful frame", ["Shift+n"], () => page.jumpToDoubt(-1)),
    key("Follow", "next reference", ["r"], () => page.jumpToReference(1)),
    key("Follow", "previous reference", ["Shift+r"], () => page.jumpToReference(-1)),
    key("Follow", "delete the reference of this frame", ["Delete"], page.deleteReference),
    key("Paint", "smart brush", ["s"], () => page.chooseTool("smart")),
    key("Paint", "box", ["x"], () => page.chooseTool("box")),
    key("Paint", "brush", ["b"], () => page.chooseTool("brush")),
    key("Paint", "eraser", ["e"], () => page.chooseTool("eraser")),
    key("Paint", "polygon", ["p"], () => page.chooseTool("polygon")),
    key("Paint", "add, take away", ["d"], () => store.set({ dabOn: !store.state.dabOn })),
    key("Paint", "smaller", ["["], size(1 / 1.25)),
    key("Paint", "larger", ["]"], size(1.25)),
    key("Paint", "close the polygon", ["Enter"], () => page.toolKey("Enter")),
    key("Paint", "remove its last corner", ["Backspace"], () => page.toolKey("Backspace")),
    key("Paint", "give up", ["Escape"], () => page.toolKey("Escape")),
    key("Paint", "paint with the arrow keys", ["c"], () => void page.cursor()),
    key("Paint", "import a mask", ["i"], page.import),
    key("Frames", "play, pause", ["k"], page.play),
    key("Frames", "one frame back", ["ArrowLeft", ","], step(-1)),
    key("Frames", "one frame on", ["ArrowRight", "."], step(1)),
    key("Frames", "ten frames back", ["Shift+ArrowLeft"], step(-10)),
    key("Frames", "ten frames on", ["Shift+ArrowRight"], step(10)),
    key("Frames", "first frame", ["Home"], () => page.jump(0)),
    key("Frames", "last frame", ["End"], () => page.jump((store.state.project?.frame_count ?? 1) - 1)),
    key("Objects", "add an object", ["a"], page.add),
    key("Objects", "object above", ["ArrowUp"], neighbour(-1)),
    key("Objects", "object below", ["ArrowDown"], neighbour(1)),
    key("Objects", "choose one of the first nine", ["1"], first?.act ?? (() => undefined)),
    ...others.map(({ keys, act }) => key("", "", keys, act)),
    key("Objects", "rename", ["F2"], page.rename),
    key("Objects", "show alone", ["o"], () => void page.solo()),
    key("Objects", "lock", ["l"], () => void page.lock()),
    key("Objects", "swap with another", ["Shift+s"], () => void page.swap()),
    key("Objects", "delete", ["Shift+Delete"], page.deleteObject),
    key("Look", "masks on, off", ["m"], () => store.set({ masks: !store.state.masks })),
    key("Look", "names on, off", ["t"], () => store.set({ labels: !store.state.labels })),
    key("Look", "zoom in", ["+", "="], () => page.zoom(1.25)),
    key("Look", "zoom out", ["-"], () => page.zoom(1 / 1.25)),
    key("Look", "whole picture", ["0"], page.fit),
    key("Look", "dark, light", ["Shift+t"], page.theme),
    key("Page", "undo", ["Ctrl+z"], page.undo),
    key("Page", "redo", ["Ctrl+Shift+z", "Ctrl+y"], page.redo),
    key("Page", "open a video", ["Ctrl+o"], page.open),
    key("Page", "export", ["Ctrl+e"], () => void page.export()),
    key("Page", "this sheet", ["?"], page.help),
  ];
}
