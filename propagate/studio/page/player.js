/**
 * Playing: frame after frame at the times of the video.
 * @import {Store} from "./store.js"
 */

export class Player {
  #run = 0;

  /**
   * @param {Store} store
   * @param {(frame: number) => Promise<void>} goTo  shows a frame, once it is loaded
   */
  constructor(store, goTo) {
    this.store = store;
    this.goTo = goTo;
  }

  toggle() {
    if (this.store.state.playing) this.pause();
    else void this.#play();
  }

  pause() {
    this.#run++;
    if (this.store.state.playing) this.store.set({ playing: false });
  }

  /** A frame that comes late delays the next one: none is left out. */
  async #play() {
    const run = ++this.#run;
    this.store.set({ playing: true, watching: false });
    const { project, frame } = this.store.state;
    if (project && frame >= project.frame_count - 1) await this.goTo(0);
    let due = performance.now();
    while (run === this.#run) {
      const { frame: here, project: now } = this.store.state;
      if (!now || here >= now.frame_count - 1) break;
      due += this.#lasts(here) * 1000;
      const wait = due - performance.now();
      if (wait > 0) await new Promise((done) => setTimeout(done, wait));
      else due = performance.now();
      if (run !== this.#run) return;
      await this.goTo(here + 1);
    }
    if (run === this.#run) this.pause();
  }

  /**
   * Seconds that a frame is shown.
   * @param {number} frame
   */
  #lasts(frame) {
    const { times, project } = this.store.state;
    const here = times[frame];
    const next = times[frame + 1];
    if (here !== undefined && next !== undefined && next > here) return Math.min(2, next - here);
    return 1 / (project?.fps || 25);
  }
}
