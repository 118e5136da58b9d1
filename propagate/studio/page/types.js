/**
 * The records that the modules pass to each other. There is no code here.
 *
 * Frames count from 0. Ids are 1 to 254; 0 is the background. A mask is a Uint8Array of
 * height * width ids, row by row. Points are in pixels of the frame: pixel i covers i to i + 1.
 *
 * @typedef {{id: number, name: string, colour: string}} ObjectInfo
 * @typedef {[number, number]} Range  first and last frame, both included
 * @typedef {{kind: string, done: number, total: number|null}} Job
 * @typedef {{
 *   id: string, name: string, width: number, height: number,
 *   frame_count: number, counted: boolean, fps: number|null,
 *   objects: ObjectInfo[], references: Record<string, number[]>,
 *   computed: Range[], stale: Range[], job: Job|null, revision: number,
 * }} Project
 * @typedef {{id: string, name: string}} Named
 * @typedef {{
 *   version: string, model: string, uploads: boolean, sam: boolean, out: string,
 *   projects: Named[], palette: string[],
 * }} AppInfo
 * @typedef {{
 *   id: string, name: string, parent: string|null, folders: Named[],
 *   videos: {id: string, name: string, kind: string, bytes: number}[],
 * }} Folder
 * @typedef {"t"|"u"|"a"|null} FrameState  tracked, unsure, absent, not computed
 * @typedef {{score: (number|null)[], margin: (number|null)[], state: FrameState[]}} Track
 * @typedef {Record<string, Track>} Tracks  by id
 * @typedef {{x: number, y: number}} Point
 * @typedef {{x: number, y: number, pressure: number}} PenPoint
 * @typedef {{x0: number, y0: number, x1: number, y1: number}} Rect  x1 and y1 are not included
 * @typedef {{kind: "stroke", points: [number, number][], radius: number, on: boolean}
 *   | {kind: "point", x: number, y: number, on: boolean}
 *   | {kind: "box", box: [number, number, number, number]}
 *   | {kind: "polygon", points: [number, number][]}} Prompt
 * @typedef {"smart"|"brush"|"eraser"|"polygon"|"box"} ToolName
 * @typedef {"saved"|"unsaved"|"saving"|"failed"} Saving
 */

export {};
