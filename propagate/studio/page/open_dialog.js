/**
 * Choosing a video: those that are open, and the folders of the server.
 * @import {AppInfo, Folder, Project} from "./types.js"
 */

import { api } from "./api.js";
import { showDialog } from "./dialog.js";
import { icon, make } from "./dom.js";

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
  if (others.length) {
    const row = make("div", { class: "projects" });
    for (const { id, name } of others) row.append(entry("video", name, "open", () => choose(() => api.project(id))));
    parts.push(make("h3", {}, "Videos that are open"), row);
  }
  parts.push(make("h3", {}, "Folders"), path, list);
  if (app.uploads) {
    const input = make("input", { type: "file", accept: "video/*,.mkv,.zip", id: "upload" });
    input.addEventListener("change", () => {
      const [file] = input.files ?? [];
      if (file) void choose(() => upload(file));
    });
    parts.push(make("label", { class: "drop", for: "upload" }, "Drop a video on the page, or choose one of this computer", input));
  }
  const dialog = showDialog("Open a video", parts, "open-dialog");

  /** @param {() => Promise<Project>} open */
  async function choose(open) {
    list.setAttribute("aria-busy", "true");
    try {
      await opened(await open());
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
      fill(await api.files(id));
    } catch (error) {
      failed(error);
    } finally {
      list.removeAttribute("aria-busy");
    }
  }

  /** @param {Folder} folder */
  function fill(folder) {
    path.textContent = folder.name || "/";
    /** @type {Node[]} */
    const entries = [];
    const { parent } = folder;
    if (parent) entries.push(entry("up", "One folder up", "", () => show(parent)));
    for (const { id, name } of folder.folders) entries.push(entry("folder", name, "", () => show(id)));
    for (const { id, name, kind, bytes } of folder.videos) {
      const size = kind === "images" ? "images" : sizeOf(bytes);
      entries.push(entry(kind === "images" ? "images" : "video", name, size, () => choose(() => api.open(id))));
    }
    if (!folder.videos.length && !folder.folders.length) {
      entries.push(make("p", { class: "soft" }, "There is no video here."));
    }
    list.replaceChildren(...entries);
    const first = list.querySelector("button");
    if (first instanceof HTMLElement) first.focus();
  }
  void show(null);
}

/**
 * @param {File} file
 * @returns {Promise<Project>}
 */
export async function upload(file) {
  const sent = await api.upload(file);
  return api.open(sent.file);
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
