/**
 * The line above the picture: what to do next, in a few words.
 * @import {State} from "./store.js"
 */

/**
 * @param {State} state
 * @returns {string}
 */
export function hintOf(state) {
  const { project, connected, active, frame } = state;
  if (!connected) return "The program does not answer. Start propagate studio again, and open the address that it prints.";
  if (!project) return "Open a video";
  if (project.job?.kind === "export") return "The export is being written";
  if (project.job) return "Watch; stop any time";
  if (state.busy) return state.answered ? "Finding the object" : "Loading the model, then finding the object";
  const references = Object.values(project.references);
  const named = new Set(references.flat());
  const object = project.objects.find(({ id }) => id === active);
  if (!named.size) return "Paint the object you want to follow";
  if (object && !named.has(active)) return `Paint ${object.name} on any frame`;
  if (!project.computed.length) {
    return frame in project.references && state.tool === "smart"
      ? "Press Follow, or mend the mask first: the right button takes away"
      : "Press Follow";
  }
  const end = project.frame_count - 1;
  const [first, more] = project.computed;
  const last = project.computed.at(-1)?.[1] ?? 0;
  const whole = project.counted && !more && first?.[0] === 0 && last >= end;
  if (project.stale.length) {
    return whole
      ? "Press Follow: only the hatched frames are computed again"
      : "Press Follow: the hatched frames are computed again, and those that have no mask yet";
  }
  if (project.counted && (more || last < end)) return "Press Follow to go on";
  return "Something wrong? Paint on that frame and press Follow again";
}
