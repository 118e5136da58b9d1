/**
 * Shows the state in the buttons and lines around the picture, and lets them act.
 * @import {Commands} from "./shortcuts.js"
 * @import {ToolName} from "./types.js"
 */

import { byId, setIcon } from "./dom.js";
import { hintOf } from "./hint.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./picture.js").Picture} Picture */

const SAVING = { saved: "Saved", unsaved: "Saving …", saving: "Saving …", failed: "Not saved" };

/** @param {string} id */
const button = (id) => byId(id, HTMLButtonElement);
/** @param {string} id */
const input = (id) => byId(id, HTMLInputElement);

/**
 * @param {Store} store
 * @param {Picture} picture
 * @param {Commands} page
 */
export function showState(store, picture, page) {
  showTop(store, page);
  showTools(store);
  showTransport(store, page);
  showFollow(store, page);
  showZoom(picture, page);
  store.watch(["project", "active", "solo", "opacity", "labels", "masks"], (state) => {
    picture.setLook({
      objects: state.project?.objects ?? [],
      active: state.active,
      solo: state.solo,
      opacity: state.opacity,
      labels: state.labels,
      masks: state.masks,
    });
  });
  store.watch(["tool", "radius", "dabOn", "busy"], ({ busy }) => {
    document.body.classList.toggle("busy", busy > 0);
    picture.draw();
  });
  button("add").addEventListener("click", page.add);
  button("import").addEventListener("click", page.import);
  button("export").addEventListener("click", () => void page.export());
  for (const each of document.querySelectorAll("[data-tool]")) {
    each.addEventListener("click", () => page.chooseTool(/** @type {ToolName} */ (each.getAttribute("data-tool"))));
  }
}

/**
 * @param {Store} store
 * @param {Commands} page
 */
function showTop(store, page) {
  button("open").addEventListener("click", page.open);
  button("open-first").addEventListener("click", page.open);
  button("undo").addEventListener("click", page.undo);
  button("redo").addEventListener("click", page.redo);
  button("theme").addEventListener("click", page.theme);
  button("help").addEventListener("click", page.help);
  button("labels").addEventListener("click", () => store.set({ labels: !store.state.labels }));
  const opacity = input("opacity");
  opacity.addEventListener("input", () => store.set({ opacity: Number(opacity.value), masks: true }));
  store.watch(["opacity"], (state) => (opacity.value = String(state.opacity)));
  store.watch(["labels"], (state) => button("labels").setAttribute("aria-pressed", String(state.labels)));
  store.watch(["undoable", "redoable"], ({ undoable, redoable }) => {
    button("undo").disabled = undoable === null;
    button("redo").disabled = redoable === null;
    button("undo").title = undoable ? `Undo: ${undoable} (Ctrl+Z)` : "Undo (Ctrl+Z)";
    button("redo").title = redoable ? `Redo: ${redoable} (Ctrl+Shift+Z)` : "Redo (Ctrl+Shift+Z)";
  });
  store.watch(["project"], ({ project }, before) => {
    document.body.classList.toggle("without-video", !project);
    if (project && project.name === before.project?.name && byId("title", HTMLElement).textContent === project.name) return;
    byId("title", HTMLElement).textContent = project?.name ?? "Open a video";
    document.title = project ? `${project.name} - propagate studio` : "propagate studio";
  });
  store.watch(["ready", "project"], ({ ready, project }) => (byId("empty", HTMLElement).hidden = !ready || Boolean(project)));
  store.watch(["missing"], ({ missing }) => {
    const line = byId("missing", HTMLElement);
    line.hidden = !missing;
    line.textContent = missing;
  });
  store.watch(["saving", "project"], ({ saving, project }) => {
    const line = byId("saving", HTMLElement);
    line.textContent = project ? SAVING[saving] : "";
    line.dataset["state"] = saving;
  });
  store.watch(["project", "connected", "active", "busy", "frame", "tool"], (state) => {
    const line = byId("hint", HTMLElement);
    const text = hintOf(state);
    if (line.textContent !== text) line.textContent = text;
    line.classList.toggle("gone", !state.connected);
  });
}

/** @param {Store} store */
function showTools(store) {
  let penSeen = false;
  store.watch(["tool", "app", "project"], ({ tool, app }) => {
    for (const each of document.querySelectorAll("[data-tool]")) {
      each.setAttribute("aria-pressed", String(each.getAttribute("data-tool") === tool));
    }
    byId("dab", HTMLElement).hidden = tool !== "smart" && tool !== "polygon";
    byId("size", HTMLElement).hidden = tool === "box" || tool === "polygon";
    byId("pressure", HTMLElement).hidden = !penSeen || tool === "box" || tool === "polygon";
    byId("method", HTMLElement).hidden = !app?.sam || (tool !== "smart" && tool !== "box");
    byId("options", HTMLElement).hidden = tool === "box" && !app?.sam;
  });
  document.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "pen" || penSeen) return;
    penSeen = true;
    store.set({ app: store.state.app && { ...store.state.app } });
  });
  const [pressure, method] = ["pressure", "method"].map((id) => byId(id, HTMLElement).querySelector("input"));
  pressure?.addEventListener("change", () => store.set({ pressure: pressure.checked }));
  method?.addEventListener("change", () => store.set({ method: method.checked ? "sam" : "walker" }));
  for (const each of document.querySelectorAll("#dab button")) {
    each.addEventListener("click", () => store.set({ dabOn: each.getAttribute("data-on") === "true" }));
  }
  store.watch(["dabOn"], ({ dabOn }) => {
    for (const each of document.querySelectorAll("#dab button")) {
      each.setAttribute("aria-pressed", String(each.getAttribute("data-on") === String(dabOn)));
    }
  });
  // The slider is finer at small sizes.
  const radius = input("radius");
  radius.addEventListener("input", () => {
    const value = 0.5 * 400 ** (Number(radius.value) / 100);
    store.set({ radius: Math.round(value * 2) / 2 || 0.5 });
  });
  store.watch(["radius"], (state) => {
    radius.value = String((100 * Math.log(state.radius / 0.5)) / Math.log(400));
    byId("radius-shown", HTMLOutputElement).value = `${Math.round(state.radius * 2)} px`;
  });
}

/**
 * @param {Store} store
 * @param {Commands} page
 */
function showTransport(store, page) {
  button("first").addEventListener("click", () => page.jump(0));
  button("back").addEventListener("click", () => page.jump(store.state.frame - 1));
  button("forward").addEventListener("click", () => page.jump(store.state.frame + 1));
  button("play").addEventListener("click", page.play);
  button("doubt").addEventListener("click", (event) => page.jumpToDoubt(event.shiftKey ? -1 : 1));
  button("reference").addEventListener("click", (event) => page.jumpToReference(event.shiftKey ? -1 : 1));
  button("delete-reference").addEventListener("click", page.deleteReference);
  button("watch").addEventListener("click", page.watch);
  const frame = input("frame");
  frame.addEventListener("change", () => page.jump(Math.round(Number(frame.value))));
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Enter") frame.blur();
  });
  store.watch(["playing"], ({ playing }) => {
    setIcon(button("play"), playing ? "pause" : "play");
    button("play").setAttribute("aria-label", playing ? "Pause (Space)" : "Play (Space)");
  });
  store.watch(["frame", "project", "times"], ({ frame: at, project, times }) => {
    frame.value = String(at);
    frame.max = String(Math.max(0, (project?.frame_count ?? 1) - 1));
    byId("frame-count", HTMLElement).textContent = project
      ? `of 0 to ${Math.max(0, project.frame_count - 1)}${project.counted ? "" : " or more"}`
      : "";
    byId("time", HTMLElement).textContent = clock(times[at]);
    button("delete-reference").hidden = !project || !(String(at) in project.references);
  });
  store.watch(["watching", "project"], ({ watching, project }) => {
    button("watch").hidden = project?.job?.kind !== "follow";
    button("watch").setAttribute("aria-pressed", String(watching));
  });
}

/** @param {number|undefined} seconds */
function clock(seconds) {
  if (seconds === undefined) return "";
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - minutes * 60).toFixed(2).padStart(5, "0")}`;
}

/**
 * @param {Store} store
 * @param {Commands} page
 */
function showFollow(store, page) {
  const go = button("follow");
  const bar = byId("follow-bar", HTMLElement);
  go.addEventListener("click", page.toggleFollow);
  store.watch(["project", "stopping"], ({ project, stopping }) => {
    const job = project?.job;
    const ready = Boolean(project && Object.values(project.references).flat().length);
    go.disabled = !project || (!ready && !job) || job?.kind === "export";
    go.classList.toggle("running", job?.kind === "follow");
    const part = job?.total ? job.done / job.total : 0;
    bar.style.transform = `scaleX(${part})`;
    const count = job?.total ? ` ${job.done} of ${job.total} frames` : "";
    const text = job?.kind === "follow" ? `${stopping ? "Stopping" : "Stop"}${count ? ` ·${count}` : ""}` : job ? `Exporting${count}` : "Follow";
    byId("follow-text", HTMLElement).textContent = text;
    go.title = job ? "Stop; what is computed stays (F)" : "Follow the painted objects through the video (F)";
    button("export").disabled = !project?.computed.length || Boolean(job);
    button("add").disabled = button("import").disabled = !project;
  });
}

/**
 * @param {Picture} picture
 * @param {Commands} page
 */
function showZoom(picture, page) {
  button("zoom-in").addEventListener("click", () => page.zoom(1.25));
  button("zoom-out").addEventListener("click", () => page.zoom(1 / 1.25));
  button("fit").addEventListener("click", page.fit);
  button("zoom-shown").addEventListener("click", page.actualSize);
  const draw = picture.onDrawn;
  picture.onDrawn = () => {
    draw();
    const percent = picture.view.scale * window.devicePixelRatio * 100;
    button("zoom-shown").textContent = `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
  };
}
