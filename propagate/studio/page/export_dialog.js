/**
 * Choosing what to export.
 * @import {Project} from "./types.js"
 */

import { api } from "./api.js";
import { showDialog } from "./dialog.js";
import { make } from "./dom.js";

const WHAT = [
  ["masks", "Masks", "a palette PNG for each frame, like those of DAVIS", true],
  ["overlay", "Overlay video", "the video with the objects tinted", false],
  ["rle", "COCO run lengths", "one JSON file with scores", false],
];

/**
 * @param {Project} project
 * @param {(error: unknown) => void} failed
 */
export function showExportDialog(project, failed) {
  const objects = make("fieldset", {}, make("legend", {}, "Objects"));
  for (const { id, name, colour } of project.objects) {
    const dot = make("span", { class: "dot" });
    dot.style.background = colour;
    objects.append(checkbox("object", String(id), true, dot, name));
  }
  const what = make("fieldset", {}, make("legend", {}, "Files"));
  for (const [value, name, note, on] of WHAT) {
    const words = make("span", {}, `${name} `, make("span", { class: "soft" }, String(note)));
    what.append(checkbox("what", String(value), Boolean(on), words));
  }
  const go = make("button", { type: "submit", class: "primary" }, "Export");
  const form = make("form", {}, objects, what, make("footer", {}, go));
  const dialog = showDialog("Export", [form], "export-dialog");
  /** @param {string} name */
  const chosen = (name) =>
    [...form.querySelectorAll(`input[name=${name}]:checked`)].map((each) => /** @type {HTMLInputElement} */ (each).value);
  form.addEventListener("change", () => {
    go.disabled = !chosen("object").length || !chosen("what").length;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const ids = chosen("object").map(Number);
    const all = ids.length === project.objects.length;
    dialog.close();
    api.export(project.id, all ? null : ids, chosen("what")).catch(failed);
  });
  go.focus();
}

/**
 * @param {string} name
 * @param {string} value
 * @param {boolean} on
 * @param {(Node|string)[]} words
 */
function checkbox(name, value, on, ...words) {
  const input = make("input", { type: "checkbox", name, value });
  input.checked = on;
  return make("label", { class: "check" }, input, ...words);
}

/**
 * Hand a finished export to the browser's downloads.
 * @param {string} url
 */
export function download(url) {
  const link = make("a", { href: url, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
}
