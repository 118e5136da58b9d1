/**
 * Following: starting and stopping it, and what the server reports meanwhile.
 * @import {Project} from "./types.js"
 */

import { api } from "./api.js";
import { doubtful } from "./doubt.js";
import { listen } from "./events.js";
import { download } from "./export_dialog.js";
import { failed, info, notice } from "./notices.js";
import { withFrame, withoutFrame } from "./ranges.js";

export class Following {
  #stopListening = () => {};

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./masks.js").Masks} masks
   * @param {import("./screen.js").Screen} screen
   * @param {{painting: () => boolean, pause: () => void}} page  whether somebody paints; stops playing
   */
  constructor(store, masks, screen, page) {
    this.store = store;
    this.masks = masks;
    this.screen = screen;
    this.page = page;
  }

  toggle() {
    (this.store.state.project?.job ? this.stop() : this.#start()).catch(failed);
  }

  async #start() {
    const { project } = this.store.state;
    if (!project || project.job) return;
    if (!Object.values(project.references).flat().length) {
      info("Paint the object first: draw a short stroke along it.");
      return;
    }
    this.page.pause();
    await this.masks.flush();
    this.store.set({ watching: true, stopping: false });
    this.takeAnswer(await api.follow(project.id));
  }

  async stop() {
    const { project } = this.store.state;
    if (!project?.job) return;
    this.store.set({ stopping: true });
    this.takeAnswer(await api.stop(project.id));
  }

  /**
   * Show what the server says of the project, unless something newer is known.
   * @param {Project} project
   */
  takeAnswer(project) {
    const { store, masks } = this;
    const now = store.state.project;
    if (!now || now.id !== project.id || project.revision < now.revision) return;
    // What is painted and not saved yet counts as a reference too.
    const references = { ...project.references };
    if (masks.hasUnsaved) {
      for (const [frame, ids] of Object.entries(now.references)) {
        if (masks.isUnsaved(Number(frame))) references[frame] = ids;
      }
      for (const frame of Object.keys(references)) if (!masks.isReference(Number(frame))) delete references[frame];
    }
    store.set({ project: { ...project, references } });
  }

  async refreshTracks() {
    const { project } = this.store.state;
    if (project) this.store.set({ tracks: await api.timeline(project.id) });
  }

  async loadTimes() {
    const { project } = this.store.state;
    if (project?.counted) this.store.set({ times: await api.times(project.id) });
  }

  /** @param {Project} project */
  async #askAgain(project) {
    this.takeAnswer(await api.project(project.id));
    await this.refreshTracks();
  }

  /** @param {Project} project */
  listenTo(project) {
    const { store, masks, screen } = this;
    const redraw = () => void screen.goTo(store.state.frame).catch(failed);
    this.#stopListening();
    this.#stopListening = listen(
      project.id,
      {
        frame: ({ index, revision, objects }) => {
          masks.computed(index, revision);
          const tracks = { ...store.state.tracks };
          for (const [id, [score, margin, state]] of Object.entries(objects)) {
            const track = (tracks[id] ??= { score: [], margin: [], state: [] });
            track.score[index] = score;
            track.margin[index] = margin;
            track.state[index] = state;
          }
          const now = store.project;
          store.set({
            tracks,
            project: {
              ...now,
              revision: Math.max(now.revision, revision),
              computed: withFrame(now.computed, index),
              stale: withoutFrame(now.stale, index),
            },
          });
          if (this.page.painting()) return;
          if (store.state.watching) screen.goTo(index).catch(failed);
          else if (index === store.state.frame) redraw();
        },
        job: ({ kind, done, total, state, error }) => {
          const running = state === "running";
          const now = store.project;
          store.set({ project: { ...now, job: running ? { kind, done, total } : null } });
          if (running) return;
          store.set({ watching: false, stopping: false });
          if (error) notice(error, { error: true });
          else if (kind === "follow" && state === "finished") this.#tellDoubts();
          this.#askAgain(now).catch(failed);
        },
        project: (received) => {
          const before = store.state.project;
          const news = before && received.revision > before.revision;
          this.takeAnswer(received);
          if (!news) return;
          masks.refresh();
          if (!this.page.painting()) redraw();
        },
        counted: ({ frame_count }) => {
          store.set({ project: { ...store.project, frame_count, counted: true } });
          this.loadTimes().catch(failed);
        },
        exported: ({ url }) => {
          download(url);
          info("The export is in your downloads.");
        },
      },
      (connected) => {
        const before = store.state.connected;
        if (connected !== before) store.set({ connected });
        // A program that was started again has another token: only its own address helps.
        if (!connected) api.state().catch((error) => error.status === 401 && failed(error));
        if (!connected || before) return;
        this.#askAgain(project).then(() => masks.flush()).then(redraw).catch(failed);
      },
    );
  }

  #tellDoubts() {
    const { tracks, project } = this.store.state;
    const count = doubtful(tracks, new Set(project?.objects.map(({ id }) => id))).length;
    const all = "look through the video all the same";
    info(
      count
        ? `Done. N goes to the next of ${count} doubtful frame${count > 1 ? "s" : ""}; ${all}.`
        : `Done. No frame was marked doubtful by its scores; ${all}.`,
    );
  }
}
