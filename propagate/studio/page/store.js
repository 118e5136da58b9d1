/**
 * The state of the page. One place holds it; whoever shows it subscribes.
 * @import {AppInfo, Project, Saving, ToolName, Tracks} from "./types.js"
 */

/**
 * @typedef {{
 *   ready: boolean,
 *   app: AppInfo|null,
 *   project: Project|null,
 *   frame: number,
 *   missing: string,
 *   tool: ToolName,
 *   active: number,
 *   radius: number,
 *   dabOn: boolean,
 *   method: "walker"|"sam",
 *   pressure: boolean,
 *   opacity: number,
 *   labels: boolean,
 *   masks: boolean,
 *   locked: ReadonlySet<number>,
 *   solo: number,
 *   playing: boolean,
 *   watching: boolean,
 *   stopping: boolean,
 *   busy: number,
 *   answered: boolean,
 *   saving: Saving,
 *   connected: boolean,
 *   tracks: Tracks,
 *   times: number[],
 *   undoable: string|null,
 *   redoable: string|null,
 * }} State
 *
 * `ready` says that it is known whether a video is open. `missing` says why the picture of the frame
 * is not seen; it is empty while the picture is that of the frame, or comes in a moment.
 * `active` and `solo` are ids, 0 for none. `busy` counts prompts that wait for an answer;
 * `answered` says whether one had an answer, so that the model is loaded.
 */

/** @type {State} */
export const INITIAL = {
  ready: false,
  app: null,
  project: null,
  frame: 0,
  missing: "",
  tool: "smart",
  active: 0,
  radius: 8,
  dabOn: true,
  method: "walker",
  pressure: false,
  opacity: 0.45,
  labels: true,
  masks: true,
  locked: new Set(),
  solo: 0,
  playing: false,
  watching: false,
  stopping: false,
  busy: 0,
  answered: false,
  saving: "saved",
  connected: true,
  tracks: {},
  times: [],
  undoable: null,
  redoable: null,
};

export class Store {
  /** @type {State} */
  #state;
  /** @type {((state: State, before: State) => void)[]} */
  #listeners = [];

  /** @param {State} state */
  constructor(state) {
    this.#state = state;
  }

  /** @returns {Readonly<State>} */
  get state() {
    return this.#state;
  }

  /** @param {Partial<State>} changes */
  set(changes) {
    const before = this.#state;
    this.#state = { ...before, ...changes };
    for (const listener of this.#listeners) listener(this.#state, before);
  }

  /**
   * Call a listener after each change of one of some fields, and once now.
   * @param {(keyof State)[]} fields
   * @param {(state: State, before: State) => void} listener
   */
  watch(fields, listener) {
    this.#listeners.push((state, before) => {
      if (fields.some((field) => state[field] !== before[field])) listener(state, before);
    });
    listener(this.#state, this.#state);
  }

  /** The open project. @returns {Project} */
  get project() {
    if (!this.#state.project) throw new Error("No video is open.");
    return this.#state.project;
  }
}
