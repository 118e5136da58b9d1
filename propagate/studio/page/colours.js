/** Colours of objects: vivid, and far from the picture and from each other. */

export const VIVID = [
  "#ff2d55", "#ff7a00", "#ffd400", "#9be600", "#00d46a", "#00e0c6",
  "#00b4ff", "#3d6bff", "#8b4dff", "#d63dff", "#ff4dc4", "#ffffff",
];

/** @typedef {[number, number, number]} Triple */

/**
 * @param {string} colour  #rrggbb
 * @returns {Triple} 0 to 255
 */
export function rgbOf(colour) {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * Relative luminance, 0 to 1.
 * @param {Triple} rgb
 */
export function luminance([r, g, b]) {
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}

/** @param {number} value  0 to 255 */
function linear(value) {
  const v = value / 255;
  return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
}

/**
 * CIELAB with the white point D65.
 * @param {Triple} rgb  sRGB, 0 to 255
 * @returns {Triple}
 */
export function labOf([r, g, b]) {
  const [lr, lg, lb] = [linear(r), linear(g), linear(b)];
  const x = (0.4124564 * lr + 0.3575761 * lg + 0.1804375 * lb) / 0.95047;
  const y = 0.2126729 * lr + 0.7151522 * lg + 0.072175 * lb;
  const z = (0.0193339 * lr + 0.119192 * lg + 0.9503041 * lb) / 1.08883;
  /** @type {(t: number) => number} */
  const f = (t) => (t > 216 / 24389 ? Math.cbrt(t) : ((24389 / 27) * t + 16) / 116);
  return [116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))];
}

/**
 * @param {Triple} a
 * @param {Triple} b
 */
function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

/**
 * Choose the colour that differs most from a picture and from other objects.
 *
 * How far a colour is from the picture is the distance that nine in ten pixels exceed. When all
 * colours are taken, those that fewest objects have are given again.
 * @param {Triple[]} pixels  of the picture, sRGB
 * @param {string[]} taken  colours of the other objects
 * @returns {string}
 */
export function standingOut(pixels, taken) {
  const picture = pixels.map(labOf);
  const uses = VIVID.map((colour) => taken.filter((other) => other === colour).length);
  const fewest = Math.min(...uses);
  const candidates = VIVID.filter((_, i) => uses[i] === fewest);
  const again = new Set(VIVID.filter((_, i) => (uses[i] ?? 0) > fewest));
  // A colour that all candidates are compared with in the same way says nothing.
  const others = taken
    .filter((colour) => fewest === 0 || again.has(colour))
    .map((colour) => labOf(rgbOf(colour)));
  let best = candidates[0] ?? "#ff2d55";
  let most = -1;
  for (const colour of candidates) {
    const lab = labOf(rgbOf(colour));
    const far = picture.map((pixel) => distance(lab, pixel)).sort((m, n) => m - n);
    const fromPicture = far.length ? /** @type {number} */ (far[Math.floor(far.length / 10)]) : 100;
    const fromOthers = Math.min(Infinity, ...others.map((other) => distance(lab, other)));
    // A colour that another object has is worth nothing, however it fits the picture.
    const worth = fromPicture * Math.min(1, fromOthers / 80) ** 2;
    if (worth > most) {
      most = worth;
      best = colour;
    }
  }
  return best;
}

/**
 * Take at most about 48 x 48 pixels of a picture, evenly.
 * @param {ImageBitmap} bitmap
 * @returns {Triple[]}
 */
export function samplePixels(bitmap) {
  const canvas = new OffscreenCanvas(48, 48);
  const context = canvas.getContext("2d");
  if (!context) return [];
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, 48, 48);
  const data = context.getImageData(0, 0, 48, 48).data;
  /** @type {Triple[]} */
  const pixels = [];
  for (let i = 0; i < data.length; i += 4) {
    pixels.push([data[i] ?? 0, data[i + 1] ?? 0, data[i + 2] ?? 0]);
  }
  return pixels;
}

/**
 * The thin edge beside an outline: dark beside light colours, light beside dark ones.
 * @param {string} colour
 */
export function edgeOf(colour) {
  return luminance(rgbOf(colour)) > 0.16 ? "rgba(0,0,0,0.85)" : "rgba(255,255,255,0.9)";
}
