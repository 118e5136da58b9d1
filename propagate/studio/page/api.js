/**
 * The requests that the page sends. Every answer that is an error becomes an `ApiError`.
 * @import {AppInfo, Folder, ObjectInfo, Project, Prompt, Tracks} from "./types.js"
 */

import { base64, packForServer, readIndexPng } from "./png.js";

/** What the server, or the lack of one, says: one line and what to do. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {string|null} hint
   * @param {number} status  0 if nobody answered
   */
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

export const GONE = "The program does not answer.";

/**
 * @param {string} url
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw gone();
  }
  return checked(response, url);
}

const gone = () => new ApiError(GONE, "Start propagate studio again, and open the address that it prints", 0);

/**
 * Send a file. Only the older kind of request tells how much of it was sent.
 * @param {string} url
 * @param {File} file
 * @param {(part: number) => void} sent
 * @returns {Promise<Response>}
 */
async function send(url, file, sent) {
  /** @type {Response} */
  const response = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-Propagate", "1");
    request.responseType = "blob";
    request.upload.addEventListener("progress", ({ loaded, total }) => sent(total ? loaded / total : 0));
    request.addEventListener("error", () => reject(gone()));
    request.addEventListener("load", () => resolve(new Response(request.response, { status: request.status })));
    request.send(file);
  });
  return checked(response, url);
}

/**
 * @param {Response} response
 * @param {string} url
 * @returns {Promise<Response>}
 * @throws {ApiError} with what the program says, if the answer is an error
 */
async function checked(response, url) {
  if (response.ok) return response;
  let message = `The program answered ${response.status} to ${url.split("?")[0]}.`;
  let hint = null;
  try {
    const body = await response.json();
    if (typeof body.error === "string") message = body.error;
    if (typeof body.hint === "string") hint = body.hint;
  } catch {
    // The answer is not JSON: the status says enough.
  }
  if (response.status === 401) hint ??= "Open the address that `propagate studio` printed.";
  throw new ApiError(message, hint, response.status);
}

/**
 * @param {string} url
 * @param {unknown} body
 */
function post(url, body) {
  return ask(url, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

/**
 * @param {Response} response
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function idsOf(response) {
  return (await readIndexPng(new Uint8Array(await response.arrayBuffer()))).ids;
}

/** @param {string} project */
const at = (project) => `/api/projects/${encodeURIComponent(project)}`;

export const api = {
  /** @param {string} token */
  login: (token) => post("/api/login", { token }),

  /** @returns {Promise<AppInfo>} */
  state: async () => (await ask("/api/state")).json(),

  /**
   * @param {string|null} folder
   * @returns {Promise<Folder>}
   */
  files: async (folder) =>
    (await ask(`/api/files${folder ? `?folder=${encodeURIComponent(folder)}` : ""}`)).json(),

  /**
   * @param {string} file
   * @returns {Promise<Project>}
   */
  open: async (file) => (await post("/api/open", { file })).json(),

  /**
   * @param {File} file
   * @param {(part: number) => void} sent  called with the part that was sent, up to 1
   * @returns {Promise<{file: string}>}
   */
  upload: async (file, sent) => (await send(`/api/upload?name=${encodeURIComponent(file.name)}`, file, sent)).json(),

  /**
   * @param {string} project
   * @returns {Promise<Project>}
   */
  project: async (project) => (await ask(at(project))).json(),

  /**
   * @param {string} project
   * @returns {Promise<number[]>} seconds
   */
  times: async (project) => (await (await ask(`${at(project)}/times`)).json()).times,

  /**
   * @param {string} project
   * @returns {Promise<Tracks>}
   */
  timeline: async (project) => (await (await ask(`${at(project)}/timeline`)).json()).objects,

  /**
   * @param {string} project
   * @param {number} frame
   * @param {AbortSignal} [signal]
   * @returns {Promise<ImageBitmap>}
   */
  frame: async (project, frame, signal) => {
    const response = await ask(`${at(project)}/frames/${frame}`, signal ? { signal } : {});
    return createImageBitmap(await response.blob());
  },

  /**
   * The ids of a mask of the run, or of a reference; null if there is none.
   * @param {string} project
   * @param {"masks"|"references"} kind
   * @param {number} frame
   * @param {string} version  tells masks of one frame apart
   * @returns {Promise<Uint8Array<ArrayBuffer>|null>}
   */
  mask: async (project, kind, frame, version) => {
    try {
      const url = `${at(project)}/${kind}/${frame}?v=${version}`;
      // The page keeps masks itself; the browser could mix up those of two starts of the program.
      return await idsOf(await ask(url, { cache: "no-store" }));
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return null;
      throw error;
    }
  },

  /**
   * @param {string} project
   * @param {number} frame
   * @param {Uint8Array<ArrayBuffer>} ids
   * @returns {Promise<Project>}
   */
  saveReference: async (project, frame, ids) =>
    (await post(`${at(project)}/references/${frame}`, { ids: await packForServer(ids) })).json(),

  /**
   * @param {string} project
   * @param {number} frame
   * @returns {Promise<Project>}
   */
  deleteReference: async (project, frame) =>
    (await post(`${at(project)}/references/${frame}/delete`, {})).json(),

  /**
   * @param {string} project
   * @param {ObjectInfo[]} objects
   * @returns {Promise<Project>}
   */
  objects: async (project, objects) => (await post(`${at(project)}/objects`, { objects })).json(),

  /**
   * @param {string} project
   * @param {number} a
   * @param {number} b
   * @param {[number, number]|null} frames
   * @returns {Promise<Project>}
   */
  swap: async (project, a, b, frames) => (await post(`${at(project)}/swap`, { a, b, frames })).json(),

  /**
   * @param {string} project
   * @param {number} frame
   * @param {number} object
   * @param {Prompt[]} prompts
   * @param {string} method
   * @returns {Promise<Uint8Array<ArrayBuffer>>} 0 or 1 for each pixel
   */
  prompt: async (project, frame, object, prompts, method) =>
    idsOf(await post(`${at(project)}/prompt`, { frame, object, prompts, method })),

  /**
   * @param {string} project
   * @param {number} frame
   * @param {File} file
   * @returns {Promise<{ids: Uint8Array<ArrayBuffer>, notes: string}>}
   */
  importMask: async (project, frame, file) => {
    const data = base64(new Uint8Array(await file.arrayBuffer()));
    const response = await post(`${at(project)}/import`, { frame, name: file.name, data });
    return { ids: await idsOf(response), notes: response.headers.get("X-Notes") ?? "" };
  },

  /**
   * @param {string} project
   * @returns {Promise<Project>}
   */
  follow: async (project) => (await post(`${at(project)}/follow`, {})).json(),

  /**
   * @param {string} project
   * @returns {Promise<Project>}
   */
  stop: async (project) => (await post(`${at(project)}/stop`, {})).json(),

  /**
   * @param {string} project
   * @param {number[]|null} objects
   * @param {string[]} what
   */
  export: async (project, objects, what) => {
    await post(`${at(project)}/export`, { objects, what });
  },
};
