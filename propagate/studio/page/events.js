/**
 * What the server reports while it works.
 * @import {Project} from "./types.js"
 */

/**
 * @typedef {{
 *   frame: (data: {index: number, revision: number, objects: Record<string, [number, number, "t"|"u"|"a"]>}) => void,
 *   job: (data: {kind: string, done: number, total: number|null, state: string, error: string|null}) => void,
 *   project: (data: Project) => void,
 *   counted: (data: {frame_count: number}) => void,
 *   exported: (data: {url: string}) => void,
 * }} Listeners
 */

const AGAIN_MS = 2000;

/**
 * Listen to the events of a project, and connect again when the connection breaks.
 * @param {string} project
 * @param {Listeners} listeners
 * @param {(connected: boolean) => void} connection
 * @returns {() => void} ends it
 */
export function listen(project, listeners, connection) {
  let ended = false;
  let timer = 0;
  /** @type {EventSource|null} */
  let source = null;

  const connect = () => {
    const opened = new EventSource(`/api/events?project=${encodeURIComponent(project)}`);
    source = opened;
    opened.onopen = () => connection(true);
    opened.onerror = () => {
      if (ended) return;
      connection(false);
      // The browser tries again by itself, but not after an answer that is an error.
      if (opened.readyState === EventSource.CLOSED) {
        clearTimeout(timer);
        timer = window.setTimeout(connect, AGAIN_MS);
      }
    };
    // Another program has written into the folder: like work that has come to its end.
    opened.addEventListener("outside", () =>
      listeners.job({ kind: "outside", done: 0, total: null, state: "finished", error: null }),
    );
    for (const [name, act] of Object.entries(listeners)) {
      opened.addEventListener(name, (event) => act(JSON.parse(event.data)));
    }
  };
  connect();
  return () => {
    ended = true;
    clearTimeout(timer);
    source?.close();
  };
}
