/**
 * Choosing a video: those that are open, and the folders of the server.
 * @import {AppInfo, Folder, Project} from "./types.js"
 */

import { api } from "./api.js";
import { showDialog } from "./dialog.js";
import { icon, make, setIcon } from "./dom.js";
import { sendVideo } from "./sending.js";

/**
 * @param {AppInfo} app
 * @param {string|null} current  id of the open project
 * @param {(project: Project) => Promise<void>} opened
 * @param {(error: unknown) => void} failed
 */
export function showOpenDialog(app, current, opened, failed) {
  const path = make("div", { class: "path" });
  const list = make("div", { class: "files", "aria-busy": "true" });
  const parts = [];
  const others = app.projects.filter(({ id }) => id !== current);
  const open = make("div", { class: "projects" });
  if (others.length) parts.push(make("h3", {}, "Videos that are open"), open);
  for (const { id, name } of others) {
    const button = entry("video", name, "open", () => choose(async () => opened(await api.project(id))));
    open.append(button);
    // Only images have no rate.
    api.project(id).then(({ fps }) => fps === null && setIcon(button, "images")).catch(() => undefined);
  }
  parts.push(make("h3", {}, "Folders"), path, list);
  if (app.uploads) {
    const input = make("input", { type: "file", accept: "video/*,.mkv,.zip", id: "upload" });
    input.addEventListener("change", () => {
      const [file] = input.files ?? [];
      if (file) void choose(() => sendVideo(file, opened));
    });
    parts.push(make("label", { class: "drop", for: "upload" }, "Drop a video on the page, or choose one of this computer", input));
  }
  const dialog = showDialog("Open a video", parts, "open-dialog");
  /** Folders from the root to the one that is shown. @type {{id: string|null, name: string}[]} */
  let way = [];

  /** @param {() => Promise<void>} act */
  async function choose(act) {
    list.setAttribute("aria-busy", "true");
    try {
      await act();
      dialog.close();
    } catch (error) {
      failed(error);
    } finally {
      list.removeAttribute("aria-busy");
    }
  }

  /** @param {string|null} id */
  async function show(id) {
    list.setAttribute("aria-busy", "true");
    try {
      fill(id, await api.files(id));
    } catch (error) {
      failed(error);
    } finally {
      list.removeAttribute("aria-busy");
    }
  }

  /**
   * @param {string|null} id  as it was asked for
   * @param {Folder} folder
   */
  function fill(id, folder) {
    const known = way.findIndex((each) => each.id === id);
    const isFirst = !way.length;
    way = [...way.slice(0, known < 0 ? way.length : known), { id, name: folder.name || "All folders" }];
    showPath();
    /** @type {Node[]} */
    const entries = [];
    const above = way.at(-2);
    if (above) entries.push(entry("up", "One folder up", "", () => show(above.id)));
    for (const each of folder.folders) entries.push(entry("folder", each.name, "", () => show(each.id)));
    for (const { id: file, name, kind, bytes } of folder.videos) {
      const size = kind === "images" ? "images" : sizeOf(bytes);
      const button = entry(kind === "images" ? "images" : "video", name, size, () => choose(async () => opened(await api.open(file))));
      button.classList.add("playable");
      entries.push(button);
    }
    if (!folder.videos.length && !folder.folders.length) {
      entries.push(make("p", { class: "soft" }, "There is no video here."));
    }
    list.replaceChildren(...entries);
    const first =
      (isFirst && open.querySelector("button")) || list.querySelector(".playable") || list.querySelector("button");
    if (first instanceof HTMLElement) first.focus();
  }

  function showPath() {
    /** @type {(Node|string)[]} */
    const names = [];
    for (const { id, name } of way.slice(0, -1)) {
      const button = make("button", { type: "button" }, name);
      button.addEventListener("click", () => void show(id));
      names.push(button, "/");
    }
    path.replaceChildren(...names, make("strong", {}, way.at(-1)?.name ?? ""));
  }
  void show(null);
}

/**
 * @param {import("./dom.js").IconName} kind
 * @param {string} name
 * @param {string} note
 * @param {() => unknown} act
 */
function entry(kind, name, note, act) {
  const button = make("button", { type: "button", class: "file" });
  button.append(icon(kind), make("span", { class: "name" }, name), make("span", { class: "soft" }, note));
  button.addEventListener("click", () => void act());
  return button;
}

/** @param {number} bytes */
function sizeOf(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
}
