import { writeFile } from 'node:fs/promises';
import { crc32, deflateSync } from 'node:zlib';
import { MotError } from '../errors.js';
import type { Picture } from '../modalities/tokenizer.js';

const SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

/** Options of encodePng(). */
export interface PngOptions {
  /** Each pixel becomes a square of this side. Default 1. */
  scale?: number;
}

/** A PNG file, 8-bit RGB. */
export function encodePng(picture: Picture, options: PngOptions = {}): Uint8Array {
  const { scale = 1 } = options;
  if (!Number.isInteger(scale) || scale < 1) {
    throw new MotError('ERR_ARGUMENT', `encodePng: expected a scale that is a positive integer, got ${scale}`);
  }
  const { width, height, data } = picture;
  if (!(width > 0 && height > 0) || data.length !== width * height * 3) {
    throw new MotError('ERR_ARGUMENT', `encodePng: expected ${width}x${height}x3 bytes, got ${data.length}`);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width * scale, 0);
  header.writeUInt32BE(height * scale, 4);
  header[8] = 8; // bits of a channel
  header[9] = 2; // RGB
  const body = deflateSync(scanlines(picture, scale), { level: 9 });
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', body), chunk('IEND', Buffer.alloc(0))]);
}

/**
 * Writes a PNG file; see encodePng().
 *
 * @throws MotError ERR_FILE_WRITE, ERR_ARGUMENT.
 */
export async function writePng(path: string, picture: Picture, options: PngOptions = {}): Promise<void> {
  const bytes = encodePng(picture, options);
  try {
    await writeFile(path, bytes);
  } catch (cause) {
    throw new MotError('ERR_FILE_WRITE', `could not write ${path}; check its folder and the space left`, { cause });
  }
}

/** Rows, each after its filter type: "sub" in the first of a pixel row, "up" in the ones that repeat it. */
function scanlines({ width, height, data }: Picture, scale: number): Uint8Array {
  const rowBytes = 1 + 3 * width * scale;
  const lines = new Uint8Array(rowBytes * height * scale);
  for (let y = 0; y < height; y++) {
    let at = y * scale * rowBytes;
    lines[at++] = 1;
    for (let x = 0; x < width; x++) {
      const pixel = (y * width + x) * 3;
      // Differences from the pixel to the left; 0 where it is repeated.
      for (let c = 0; c < 3; c++) lines[at + c] = data[pixel + c]! - (x > 0 ? data[pixel - 3 + c]! : 0);
      at += 3 * scale;
    }
    for (let repeat = 1; repeat < scale; repeat++) lines[(y * scale + repeat) * rowBytes] = 2;
  }
  return lines;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(12 + data.length);
  bytes.writeUInt32BE(data.length, 0);
  bytes.write(type, 4, 'latin1');
  bytes.set(data, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
  return bytes;
}
