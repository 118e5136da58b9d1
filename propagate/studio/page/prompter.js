/**
 * Asks the server what object dabs and boxes mean, and puts the answer into the mask.
 * @import {Prompt} from "./types.js"
 * @import {Host} from "./tool.js"
 */

import { api } from "./api.js";
import { Draft } from "./draft.js";
import { idsIn } from "./shapes.js";
import { applyAnswer, applyBox, promptsOf } from "./smart.js";

/** @typedef {Uint8Array<ArrayBuffer>} Ids */
/**
 * Dabs that belong together: each answer is found from all of them.
 * @typedef {{frame: number, object: number, base: Ids, given: Prompt[], last: Ids}} Talk
 */

export class Prompter {
  /** @type {Talk|null} */
  #talk = null;
  #queue = Promise.resolve();
  /** Prompts that wait for their answer. @type {{frame: number, prompt: Prompt}[]} */
  waiting = [];

  /** @param {Host} host */
  constructor(host) {
    this.host = host;
  }

  /**
   * Ask about one more dab or box on the frame that is shown. Answers come in order.
   * @param {Prompt} prompt
   */
  ask(prompt) {
    const { store } = this.host;
    const { frame, active } = store.state;
    const waits = { frame, prompt };
    this.waiting.push(waits);
    store.set({ busy: store.state.busy + 1 });
    this.#queue = this.#queue
      .then(() => this.#answer(frame, active, prompt))
      .catch((error) => this.host.failed(error))
      .then(() => {
        this.waiting = this.waiting.filter((each) => each !== waits);
        store.set({ busy: store.state.busy - 1 });
        this.host.picture.draw();
      });
  }

  /**
   * @param {number} frame
   * @param {number} object
   * @param {Prompt} prompt
   */
  async #answer(frame, object, prompt) {
    const { store, masks, editor } = this.host;
    const { id, width, height } = store.project;
    const before = await masks.get(frame);
    let talk = this.#talk;
    if (talk?.frame !== frame || talk.object !== object || talk.last !== before) {
      talk = { frame, object, base: before, given: [], last: before };
    }
    const given = [...talk.given, prompt];
    const fromNothing = !talk.base.includes(object);
    const asked = promptsOf(before, width, height, object, given, fromNothing);
    const answer = await api.prompt(id, frame, object, asked, store.state.method);
    store.set({ answered: true });
    if (store.state.project?.id !== id) return;
    const draft = new Draft(frame, before, width, editor.kept);
    if (prompt.kind === "stroke") {
      applyAnswer(draft.ids, width, height, object, answer, prompt, draft.kept);
    } else if (prompt.kind === "box") {
      const [x0, y0, x1, y1] = prompt.box;
      applyBox(draft.ids, width, object, answer, { x0, y0, x1, y1 }, !before.includes(object), draft.kept);
    }
    const old = talk;
    const changed = editor.finish(draft, prompt.kind === "box" ? "Box" : "Smart dab", {
      undone: () => this.#resume({ ...old }),
      redone: () => this.#resume({ ...old, given }),
    });
    if (changed) this.#talk = { ...talk, given, last: draft.ids };
    else editor.giveUp(1);
    if (!changed && !idsIn(answer).length) this.host.info("Nothing was found there. Draw a longer stroke along the object.");
    if (store.state.frame === frame) this.host.picture.setIds(masks.peek(frame));
  }

  /**
   * After undo and redo the next dab goes on from the dabs that are left.
   * @param {Talk} talk
   */
  #resume(talk) {
    const now = this.host.masks.peek(talk.frame);
    this.#talk = now ? { ...talk, last: now } : null;
  }
}
