/**
 * Files that come in: a mask for the frame that is shown, or a video, chosen or dropped on the page.
 * @import {Project} from "./types.js"
 */

import { byId } from "./dom.js";
import { failed, info } from "./notices.js";
import { sendVideo } from "./sending.js";

/** An animated GIF is taken for a mask here. */
const VIDEO = /\.(3gp|asf|avi|flv|h26[45]|hevc|ivf|m2ts|m2v|m4v|mkv|mov|mp4|mpe?g|mts|mxf|nut|og[gv]|rm|ts|vob|webm|wmv|y4m|zip)$/i;

/**
 * @param {import("./store.js").Store} store
 * @param {import("./editor.js").Editor} editor
 * @param {(project: Project) => Promise<void>} open
 */
export function takeFiles(store, editor, open) {
  const input = byId("import-file", HTMLInputElement);
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    input.value = "";
    if (file) editor.importMask(file).catch(failed);
  });

  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer?.files ?? [];
    if (!file) return;
    const isVideo = file.type.startsWith("video/") || VIDEO.test(file.name);
    const { app, project } = store.state;
    if (!isVideo && project) editor.importMask(file).catch(failed);
    else if (app?.uploads) {
      for (const dialog of document.querySelectorAll("dialog")) dialog.close();
      sendVideo(file, open).catch(failed);
    } else info("Files cannot be sent here. Open a video from its folder, or start the program with --uploads.");
  });
}
