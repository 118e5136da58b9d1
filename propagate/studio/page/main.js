/**
 * Joins the parts of the page.
 * @import {Project, ToolName} from "./types.js"
 * @import {Tool} from "./tool.js"
 */

import { api, ApiError } from "./api.js";
import { brushTool } from "./brush.js";
import { KeyCursor } from "./cursor.js";
import { boxTool, smartTool } from "./dabs.js";
import { byId, placeIcons } from "./dom.js";
import { doubtful, nextOf } from "./doubt.js";
import { Editor } from "./editor.js";
import { listen } from "./events.js";
import { download, showExportDialog } from "./export_dialog.js";
import { Frames } from "./frames.js";
import { History } from "./history.js";
import { listenToKeys, showSheet } from "./keyboard.js";
import { polygonTool } from "./lasso.js";
import { Masks, within } from "./masks.js";
import { failed, info, notice } from "./notices.js";
import { ObjectsPanel } from "./objects.js";
import { showOpenDialog, upload } from "./open_dialog.js";
import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { PointerInput } from "./pointer.js";
import { Prompter } from "./prompter.js";
import { shortcuts } from "./shortcuts.js";
import { showState } from "./show.js";
import { INITIAL, Store } from "./store.js";
import { restoreTheme, toggleTheme } from "./theme.js";
import { Timeline } from "./timeline.js";

restoreTheme();
placeIcons();

const store = new Store(INITIAL);
const history = new History((undoable, redoable) => store.set({ undoable, redoable }));
const picture = new Picture(byId("picture", HTMLCanvasElement), byId("overlay", HTMLCanvasElement));
const masks = new Masks(() => store.project, takeAnswer, (saving) => store.set({ saving }), failed);
let frames = new Frames("");
let stopListening = () => {};

// Frames and masks on the screen

/** A frame that takes longer than this gives way to the one that is wanted now. */
const PATIENCE_MS = 150;

/** Counts calls of `goTo`. */
let wanted = 0;
/** The frame on the screen. */
let shown = -1;
/** @type {Promise<void>|null} */
let loading = null;

/**
 * Show a frame with its mask. While one is loaded, of further calls the last one counts.
 * @param {number} frame
 * @returns {Promise<void>} when the last one is shown
 */
function goTo(frame) {
  const { project } = store.state;
  if (!project) return Promise.resolve();
  const at = Math.min(Math.max(0, frame), Math.max(0, project.frame_count - 1));
  wanted++;
  if (at !== store.state.frame) {
    pointer.cancel();
    store.set({ frame: at });
  }
  loading ??= load().finally(() => (loading = null));
  return loading;
}

async function load() {
  for (;;) {
    const turn = wanted;
    const { frame, project } = store.state;
    if (!project) return;
    const pair = Promise.all([frames.get(frame), masks.get(frame)]);
    try {
      const found = await Promise.race([pair, overtaken(pair, turn)]);
      if (found && store.state.project?.id === project.id) present(frame, ...found);
    } catch (error) {
      if (turn === wanted) throw error;
    }
    if (turn === wanted) return;
  }
}

/**
 * Wait until something is loaded, or it takes long and something else is wanted.
 * @param {Promise<unknown>} pair
 * @param {number} turn
 * @returns {Promise<null>}
 */
async function overtaken(pair, turn) {
  let done = false;
  pair.catch(() => undefined).then(() => (done = true));
  do await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
  while (!done && turn === wanted);
  return null;
}

/**
 * @param {number} frame
 * @param {ImageBitmap} bitmap
 * @param {Uint8Array<ArrayBuffer>} ids
 */
function present(frame, bitmap, ids) {
  if (pointer.painting && frame === shown) return;
  const { project, playing } = store.state;
  shown = frame;
  frames.show(frame);
  picture.show(bitmap, ids);
  const last = (project?.frame_count ?? 1) - 1;
  frames.prefetch(frame, last + 1);
  if (!playing) return;
  for (let next = frame + 1; next <= Math.min(last, frame + 8); next++) {
    masks.get(next).catch(() => undefined);
  }
}

/** @param {number} frame */
function jump(frame) {
  player.pause();
  store.set({ watching: false });
  goTo(frame).catch(failed);
}

function redraw() {
  goTo(store.state.frame).catch(failed);
}

// Answers and events of the server

/** @param {Project} project */
function takeAnswer(project) {
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

async function refreshTracks() {
  const { project } = store.state;
  if (project) store.set({ tracks: await api.timeline(project.id) });
}

async function loadTimes() {
  const { project } = store.state;
  if (project?.counted) store.set({ times: await api.times(project.id) });
}

/** @param {Project} project */
function startListening(project) {
  stopListening();
  stopListening = listen(
    project.id,
    {
      frame({ index, revision, objects }) {
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
        if (store.state.watching && !pointer.painting) goTo(index).catch(failed);
        else if (index === store.state.frame && !pointer.painting) redraw();
      },
      job({ kind, done, total, state, error }) {
        const running = state === "running";
        const now = store.project;
        store.set({ project: { ...now, job: running ? { kind, done, total } : null } });
        if (running) return;
        store.set({ watching: false, stopping: false });
        if (error) notice(error, { error: true });
        else if (kind === "follow" && state === "finished") tellDoubts();
        api.project(now.id).then(takeAnswer).then(refreshTracks).catch(failed);
      },
      project(received) {
        const before = store.state.project;
        const news = before && received.revision > before.revision;
        takeAnswer(received);
        if (news) {
          masks.refresh();
          if (!pointer.painting) redraw();
        }
      },
      counted({ frame_count }) {
        store.set({ project: { ...store.project, frame_count, counted: true } });
        loadTimes().catch(failed);
      },
      exported({ url }) {
        download(url);
        info("The export is in your downloads.");
      },
    },
    (connected) => {
      const before = store.state.connected;
      if (connected !== before) store.set({ connected });
      // A program that was started again has another token: only its own address helps.
      if (!connected) api.state().catch((error) => error.status === 401 && failed(error));
      if (connected && !before) {
        api.project(project.id).then(takeAnswer).then(refreshTracks).then(() => masks.flush()).catch(failed);
      }
    },
  );
}

function tellDoubts() {
  const { tracks, project } = store.state;
  const count = doubtful(tracks, new Set(project?.objects.map(({ id }) => id))).length;
  info(count ? `Done. N goes to the next of ${count} doubtful frame${count > 1 ? "s" : ""}.` : "Done. No frame stands out by its scores; look through the video all the same.");
}

/**
 * @param {[number, number][]} ranges
 * @param {number} frame
 * @returns {[number, number][]}
 */
function withFrame(ranges, frame) {
  if (within(ranges, frame)) return ranges;
  /** @type {[number, number][]} */
  const joined = [];
  /** @type {[number, number]} */
  const own = [frame, frame];
  for (const range of [...ranges, own].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last && range[0] <= last[1] + 1) last[1] = Math.max(last[1], range[1]);
    else joined.push([range[0], range[1]]);
  }
  return joined;
}

/**
 * @param {[number, number][]} ranges
 * @param {number} frame
 * @returns {[number, number][]}
 */
function withoutFrame(ranges, frame) {
  return ranges.flatMap(([first, last]) => {
    if (frame < first || frame > last) return [/** @type {[number, number]} */ ([first, last])];
    /** @type {[number, number][]} */
    const parts = [[first, frame - 1], [frame + 1, last]];
    return parts.filter(([a, b]) => a <= b);
  });
}

// Opening

/** @param {Project} project */
async function openProject(project) {
  if (store.state.project) await masks.flush();
  player.pause();
  frames.clear();
  frames = new Frames(project.id);
  masks.forget();
  history.clear();
  picture.show(null, null);
  shown = -1;
  const named = Object.keys(project.references).map(Number);
  store.set({
    project,
    frame: 0,
    tracks: {},
    times: [],
    active: project.objects[0]?.id ?? 0,
    solo: 0,
    locked: new Set(),
    watching: project.job?.kind === "follow",
    stopping: false,
    radius: Math.max(2, Math.round(Math.min(project.width, project.height) / 40)),
    saving: "saved",
  });
  const app = store.state.app;
  if (app && !app.projects.some(({ id }) => id === project.id)) {
    store.set({ app: { ...app, projects: [...app.projects, { id: project.id, name: project.name }] } });
  }
  startListening(project);
  await Promise.all([goTo(project.computed.length ? 0 : (named[0] ?? 0)), refreshTracks(), loadTimes()]);
  picture.view.fit();
  picture.draw();
}

function showOpen() {
  const { app, project } = store.state;
  if (app) showOpenDialog(app, project?.id ?? null, openProject, failed);
}

async function begin() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    window.history.replaceState(null, "", location.pathname);
    await api.login(token);
  }
  const app = await api.state();
  store.set({ app });
  const first = app.projects[0];
  if (first) await openProject(await api.project(first.id));
  else showOpen();
}

// Following

async function follow() {
  const { project } = store.state;
  if (!project || project.job) return;
  if (!Object.values(project.references).flat().length) {
    info("Paint the object first: draw a short stroke along it.");
    return;
  }
  player.pause();
  await masks.flush();
  store.set({ watching: true, stopping: false });
  takeAnswer(await api.follow(project.id));
}

async function stop() {
  const { project } = store.state;
  if (!project?.job) return;
  store.set({ stopping: true });
  takeAnswer(await api.stop(project.id));
}

const toggleFollow = () => void (store.state.project?.job ? stop() : follow()).catch(failed);

// Tools

const editor = new Editor(store, masks, history, {
  goTo,
  redraw,
  bitmap: (frame) => frames.peek(frame),
  info,
});
const host = { store, masks, editor, picture, failed, info };
const prompter = new Prompter(host);
/** @type {Record<ToolName, Tool>} */
const tools = {
  smart: smartTool(host, prompter),
  box: boxTool(host, prompter),
  brush: brushTool(host, false),
  eraser: brushTool(host, true),
  polygon: polygonTool(host),
};
const tool = () => tools[store.state.tool];

const pointer = new PointerInput(byId("overlay", HTMLCanvasElement), picture, tool, () => {
  const { project, playing } = store.state;
  if (!project || shown !== store.state.frame) return false;
  if (playing) {
    player.pause();
    return false;
  }
  if (project.job?.kind === "follow") {
    store.set({ watching: false });
    stop().catch(failed);
    info("Stopped, because you paint. Press Follow to go on.");
  }
  return true;
});
picture.onOverlay = (context, view) => {
  if (store.state.project) tool().draw(context, view, pointer.spaceDown ? null : pointer.at);
};

const cursor = new KeyCursor(pointer, picture, tool, info);

/** @param {ToolName} name */
function chooseTool(name) {
  if (store.state.tool === name) return;
  pointer.cancel();
  tool().cancel();
  store.set({ tool: name });
}

const player = new Player(store, goTo);
const panel = new ObjectsPanel(byId("objects", HTMLElement), store, editor, failed);
const timeline = new Timeline(byId("timeline", HTMLElement), store, jump, (id) => store.set({ active: id }));

// Moving between frames

/** @param {1|-1} direction */
function jumpToDoubt(direction) {
  const { tracks, frame, project, solo } = store.state;
  if (!project) return;
  const ids = new Set(solo ? [solo] : project.objects.map(({ id }) => id));
  const found = nextOf(doubtful(tracks, ids), frame, direction);
  if (found === null) info(direction > 0 ? "No doubtful frame after this one." : "No doubtful frame before this one.");
  else jump(found);
}

/** @param {1|-1} direction */
function jumpToReference(direction) {
  const { project, frame } = store.state;
  if (!project) return;
  const named = Object.keys(project.references).map(Number).sort((a, b) => a - b);
  const found = nextOf(named, frame, direction);
  if (found === null) info(direction > 0 ? "No reference after this frame." : "No reference before this frame.");
  else jump(found);
}

/** @param {number} factor */
function zoom(factor) {
  const { width, height } = picture.view.stage;
  picture.view.zoom(factor, width / 2, height / 2);
  picture.draw();
}

const commands = {
  store,
  open: showOpen,
  undo: () => void history.undo().catch(failed),
  redo: () => void history.redo().catch(failed),
  chooseTool,
  toggleFollow,
  play: () => player.toggle(),
  jump,
  jumpToDoubt,
  jumpToReference,
  zoom,
  fit: () => {
    picture.view.fit();
    picture.draw();
  },
  actualSize: () => {
    const { view } = picture;
    view.zoomTo(1 / window.devicePixelRatio, view.stage.width / 2, view.stage.height / 2);
    picture.draw();
  },
  add: () => void (store.state.project && editor.addObject().catch(failed)),
  rename: () => panel.rename(store.state.active),
  solo: () => store.state.active && panel.toggleSolo(store.state.active),
  lock: () => store.state.active && panel.toggleLock(store.state.active),
  swap: () => (store.state.project?.objects.length ?? 0) > 1 && panel.showSwap(store.state.active),
  deleteObject: () => void (store.state.active && editor.deleteObject(store.state.active).catch(failed)),
  deleteReference: () => void (store.state.project && editor.deleteReference(store.state.frame).catch(failed)),
  import: () => byId("import-file", HTMLInputElement).click(),
  export: () => store.state.project?.computed.length && showExportDialog(store.state.project, failed),
  watch: () => store.set({ watching: !store.state.watching }),
  theme: () => {
    toggleTheme();
    timeline.draw();
  },
  help: () => showSheet(keys),
  cursor: () => store.state.project && cursor.toggle(),
  toolKey: (/** @type {string} */ key) => tool().key(key),
};
const keys = shortcuts(commands);
listenToKeys(keys, failed);
showState(store, picture, commands);

// The space bar: held, it moves the picture; tapped, it plays.
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.repeat || !(event.target === document.body || event.target instanceof HTMLCanvasElement)) return;
  if (document.querySelector("dialog[open]")) return;
  event.preventDefault();
  pointer.spaceDown = true;
  pointer.dragged = false;
  pointer.element.classList.add("pannable");
});
document.addEventListener("keyup", (event) => {
  if (event.key !== " " || !pointer.spaceDown) return;
  pointer.spaceDown = false;
  pointer.element.classList.remove("pannable");
  if (!pointer.dragged) player.toggle();
});

// A button that was clicked does not keep the keys; one that was reached by keys does.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (event.detail && button && !button.closest("dialog, .menu")) button.blur();
  },
  { capture: true },
);

const fileInput = byId("import-file", HTMLInputElement);
fileInput.addEventListener("change", () => {
  const [file] = fileInput.files ?? [];
  fileInput.value = "";
  if (file) editor.importMask(file).catch(failed);
});

// A file that is dropped on the page: a mask for this frame, or a video.
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (!file) return;
  const isVideo = file.type.startsWith("video/") || /\.(mkv|zip|avi|ts|mov|mp4|webm)$/i.test(file.name);
  if (!isVideo && store.state.project) editor.importMask(file).catch(failed);
  else if (store.state.app?.uploads) {
    for (const dialog of document.querySelectorAll("dialog")) dialog.close();
    info(`Sending ${file.name} …`);
    upload(file).then(openProject).catch(failed);
  } else info("Files cannot be sent here. Open a video from its folder, or start the program with --uploads.");
});

new ResizeObserver(() => picture.resize()).observe(byId("stage", HTMLElement));
/** The window may move to a screen of another ratio. */
function watchRatio() {
  const query = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
  query.addEventListener("change", () => (picture.resize(), watchRatio()), { once: true });
}
watchRatio();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => timeline.draw());
window.addEventListener("beforeunload", (event) => {
  if (masks.hasUnsaved) event.preventDefault();
});
window.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  failed(event.reason);
});

begin().catch((error) => {
  failed(error);
  if (error instanceof ApiError && error.status === 0) store.set({ connected: false });
});
