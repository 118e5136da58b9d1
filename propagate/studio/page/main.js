/**
 * Joins the parts of the page.
 * @import {Project, ToolName} from "./types.js"
 * @import {Tool} from "./tool.js"
 */

import { api, ApiError } from "./api.js";
import { takeFiles } from "./arriving.js";
import { brushTool } from "./brush.js";
import { KeyCursor } from "./cursor.js";
import { boxTool, smartTool } from "./dabs.js";
import { byId, placeIcons } from "./dom.js";
import { Editor } from "./editor.js";
import { showExportDialog } from "./export_dialog.js";
import { Following } from "./following.js";
import { History } from "./history.js";
import { listenToKeys, showSheet } from "./keyboard.js";
import { polygonTool } from "./lasso.js";
import { Masks } from "./masks.js";
import { movesOf } from "./moves.js";
import { failed, info } from "./notices.js";
import { ObjectsPanel } from "./objects.js";
import { showOpenDialog } from "./open_dialog.js";
import { Picture } from "./picture.js";
import { rememberedPlace, rememberPlace } from "./place.js";
import { Player } from "./player.js";
import { PointerInput } from "./pointer.js";
import { Prompter } from "./prompter.js";
import { Screen } from "./screen.js";
import { shortcuts } from "./shortcuts.js";
import { showState } from "./show.js";
import { listenToSpace } from "./space_bar.js";
import { INITIAL, Store } from "./store.js";
import { restoreTheme, toggleTheme } from "./theme.js";
import { Timeline } from "./timeline.js";

restoreTheme();
placeIcons();

const store = new Store(INITIAL);
const history = new History((undoable, redoable) => store.set({ undoable, redoable }));
const picture = new Picture(byId("picture", HTMLCanvasElement), byId("overlay", HTMLCanvasElement));
const masks = new Masks(() => store.project, (project) => following.takeAnswer(project), (saving) => store.set({ saving }), failed);
const painting = () => pointer.painting;
const screen = new Screen(store, masks, picture, { painting, leave: () => pointer.cancel() });
/** @type {(frame: number) => Promise<void>} */
const goTo = (frame) => screen.goTo(frame);
const player = new Player(store, goTo);
const following = new Following(store, masks, screen, { painting, pause: () => player.pause() });
const { jump, jumpToDoubt, jumpToReference } = movesOf(store, screen, () => player.pause());

// Opening

/**
 * @param {Project} project
 * @param {number} [frame]  shown first
 */
async function openProject(project, frame) {
  if (store.state.project) await masks.flush();
  player.pause();
  masks.forget();
  history.clear();
  screen.open(project);
  const [named = 0] = Object.keys(project.references).map(Number);
  const first = frame ?? (project.computed.length ? 0 : named);
  store.set({
    project,
    frame: first,
    missing: "",
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
  following.listenTo(project);
  await Promise.all([goTo(first), following.refreshTracks(), following.loadTimes()]);
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
  const place = rememberedPlace();
  const again = app.projects.find(({ id }) => id === place?.project);
  const first = again ?? app.projects[0];
  if (first) await openProject(await api.project(first.id), again && place?.frame);
  else {
    store.set({ ready: true });
    showOpen();
  }
}

// Tools

const editor = new Editor(store, masks, history, {
  goTo,
  redraw: () => void goTo(store.state.frame).catch(failed),
  bitmap: (frame) => screen.frames.peek(frame),
  info,
  failed,
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
  if (!project || screen.shown !== store.state.frame) return false;
  if (playing) {
    player.pause();
    return false;
  }
  if (project.job?.kind === "follow") {
    store.set({ watching: false });
    following.stop().catch(failed);
    info("Stopped, because you paint. Press Follow to go on.");
  }
  return true;
});
picture.onOverlay = (context, view) => {
  if (!store.state.project) return;
  tool().draw(context, view, pointer.spaceDown ? null : pointer.at);
  cursor.draw(context, view);
};

const cursor = new KeyCursor(pointer, picture, tool, info);

/** @param {ToolName} name */
function chooseTool(name) {
  if (store.state.tool === name) return;
  pointer.cancel();
  tool().cancel();
  store.set({ tool: name });
}

const panel = new ObjectsPanel(byId("objects", HTMLElement), store, editor, failed);
const timeline = new Timeline(byId("timeline", HTMLElement), store, jump, (id) => store.set({ active: id }));

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
  toggleFollow: () => following.toggle(),
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
  toolKey: (/** @type {string} */ key) => {
    if (!tool().key(key) && key === "Escape") pointer.cancel();
  },
};
const keys = shortcuts(commands);
listenToKeys(keys, failed);
showState(store, picture, commands);

listenToSpace(pointer, () => player.toggle());
takeFiles(store, editor, openProject);
store.watch(["project", "frame"], ({ project, frame }) => project && rememberPlace(project.id, frame));

// A button that was clicked does not keep the keys; one that was reached by keys does.
document.addEventListener(
  "click",
  (event) => {
    const button = event.target instanceof Element ? event.target.closest("button") : null;
    if (event.detail && button && !button.closest("dialog, .menu")) button.blur();
  },
  { capture: true },
);

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
  store.set({ ready: true });
  if (error instanceof ApiError && error.status === 0) store.set({ connected: false });
});
