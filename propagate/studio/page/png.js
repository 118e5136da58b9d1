/**
 * Reads index PNGs as ids.
 *
 * A browser turns a palette PNG into colours, and may convert these for the screen. So the file is
 * read here: chunks, zlib stream, filters. The values are the ids, whatever the palette says.
 */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/**
 * @typedef {{width: number, height: number, ids: Uint8Array<ArrayBuffer>}} IndexImage
 */

/**
 * Read a PNG of one channel (palette or grey) with 1, 2, 4 or 8 bits a pixel.
 * @param {Uint8Array<ArrayBuffer>} file
 * @returns {Promise<IndexImage>}
 * @throws {Error} if it is no such PNG or is damaged
 */
export async function readIndexPng(file) {
  if (SIGNATURE.some((byte, i) => file[i] !== byte)) throw new Error("The mask is not a PNG.");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let width = 0;
  let height = 0;
  let bits = 8;
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  for (let at = 8; at + 8 <= file.length; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...file.subarray(at + 4, at + 8));
    const body = file.subarray(at + 8, at + 8 + length);
    if (name === "IHDR") {
      width = view.getUint32(at + 8);
      height = view.getUint32(at + 12);
      bits = file[at + 16] ?? 0;
      const kind = file[at + 17];
      const interlaced = file[at + 20];
      if ((kind !== 0 && kind !== 3) || bits > 8 || interlaced) {
        throw new Error("The mask is not an index PNG of up to 8 bits.");
      }
    } else if (name === "IDAT") parts.push(body);
    else if (name === "IEND") break;
    at += 12 + length;
  }
  const raw = await inflate(parts);
  const stride = Math.ceil((width * bits) / 8);
  if (raw.length < (stride + 1) * height) throw new Error("The mask is cut off.");
  const rows = unfilter(raw, stride, height);
  return { width, height, ids: bits === 8 ? rows : spread(rows, stride, width, height, bits) };
}

/**
 * Undo the filters of the rows. With up to 8 bits a pixel, the pixel to the left is one byte back.
 * @param {Uint8Array} raw  (1 + stride) * height bytes
 * @param {number} stride
 * @param {number} height
 * @returns {Uint8Array<ArrayBuffer>} stride * height bytes
 */
function unfilter(raw, stride, height) {
  const out = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) {
    const from = y * (stride + 1) + 1;
    const to = y * stride;
    const filter = raw[from - 1] ?? 0;
    if (filter === 0) {
      out.set(raw.subarray(from, from + stride), to);
      continue;
    }
    if (filter > 4) throw new Error("The mask is damaged.");
    for (let x = 0; x < stride; x++) {
      const left = x ? /** @type {number} */ (out[to + x - 1]) : 0;
      const up = y ? /** @type {number} */ (out[to + x - stride]) : 0;
      const corner = x && y ? /** @type {number} */ (out[to + x - stride - 1]) : 0;
      const value = /** @type {number} */ (raw[from + x]);
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else guess = nearest(left, up, corner);
      out[to + x] = value + guess;
    }
  }
  return out;
}

/**
 * The Paeth predictor of PNG.
 * @param {number} left
 * @param {number} up
 * @param {number} corner
 */
function nearest(left, up, corner) {
  const guess = left + up - corner;
  const a = Math.abs(guess - left);
  const b = Math.abs(guess - up);
  const c = Math.abs(guess - corner);
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

/**
 * One byte for each pixel of fewer than 8 bits.
 * @param {Uint8Array} rows
 * @param {number} stride
 * @param {number} width
 * @param {number} height
 * @param {number} bits
 */
function spread(rows, stride, width, height, bits) {
  const out = new Uint8Array(width * height);
  const each = 8 / bits;
  const low = (1 << bits) - 1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const byte = /** @type {number} */ (rows[y * stride + Math.floor(x / each)]);
      out[y * width + x] = (byte >> (8 - bits * ((x % each) + 1))) & low;
    }
  }
  return out;
}

/**
 * @param {Uint8Array<ArrayBuffer>[]} parts
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Compress ids as the server reads them: zlib, then base64.
 * @param {Uint8Array<ArrayBuffer>} ids
 * @returns {Promise<string>}
 */
export async function packForServer(ids) {
  const stream = new Blob([ids]).stream().pipeThrough(new CompressionStream("deflate"));
  return base64(new Uint8Array(await new Response(stream).arrayBuffer()));
}

/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function base64(bytes) {
  let text = "";
  // Arguments of a call are limited, so the bytes go in pieces.
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}
