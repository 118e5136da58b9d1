/** Undo and redo: a list of steps that know both directions. */

/**
 * @typedef {{label: string, undo: () => Promise<void>, redo: () => Promise<void>, bytes: number}} Step
 */

const MOST_BYTES = 128 * 2 ** 20;
const MOST_STEPS = 1000;

export class History {
  /** @type {Step[]} */
  #done = [];
  /** @type {Step[]} */
  #undone = [];
  #running = Promise.resolve();

  /** @param {(undoable: string|null, redoable: string|null) => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  /**
   * Remember a step that was just done. Steps that were undone are forgotten.
   * @param {Step} step
   */
  push(step) {
    this.#done.push(step);
    this.#undone = [];
    let bytes = this.#done.reduce((sum, each) => sum + each.bytes, 0);
    while (this.#done.length > MOST_STEPS || (bytes > MOST_BYTES && this.#done.length > 1)) {
      bytes -= this.#done.shift()?.bytes ?? 0;
    }
    this.#tell();
  }

  /** The step that undo would take back. */
  get last() {
    return this.#done.at(-1) ?? null;
  }

  /**
   * Forget the last step, if it is this one: it is as if it had never been done.
   * @param {Step} step
   * @returns {boolean} whether it was the last one
   */
  retract(step) {
    if (this.#done.at(-1) !== step) return false;
    this.#done.pop();
    this.#tell();
    return true;
  }

  undo() {
    return this.#move(() => this.#done.pop(), "undo");
  }

  redo() {
    return this.#move(() => this.#undone.pop(), "redo");
  }

  clear() {
    this.#done = [];
    this.#undone = [];
    this.#tell();
  }

  /**
   * Steps run one after the other, however fast the keys are pressed.
   * @param {() => Step|undefined} take
   * @param {"undo"|"redo"} direction
   */
  #move(take, direction) {
    const run = async () => {
      const step = take();
      if (!step) return;
      const [from, to] =
        direction === "undo" ? [this.#done, this.#undone] : [this.#undone, this.#done];
      try {
        await step[direction]();
        to.push(step);
      } catch (error) {
        from.push(step);
        throw error;
      } finally {
        this.#tell();
      }
    };
    const turn = this.#running.then(run);
    this.#running = turn.catch(() => undefined);
    return turn;
  }

  #tell() {
    this.changed(this.#done.at(-1)?.label ?? null, this.#undone.at(-1)?.label ?? null);
  }
}
