/**
 * Where a person was: a page that is loaded again comes back to the video and the frame. It is kept
 * for this tab, until the tab is closed.
 */

const KEY = "propagate-place";

/**
 * @param {string} project
 * @param {number} frame
 */
export function rememberPlace(project, frame) {
  sessionStorage.setItem(KEY, JSON.stringify([project, frame]));
}

/** @returns {{project: string, frame: number}|null} */
export function rememberedPlace() {
  try {
    const [project, frame] = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    if (typeof project === "string" && Number.isInteger(frame)) return { project, frame };
  } catch {
    // Something else wrote there.
  }
  return null;
}
