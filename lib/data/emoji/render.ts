import sharp from 'sharp';
import { MotError } from '../../errors.js';
import { SIDE } from './options.js';

export { SIDE };
/** Side of an emoji that shares its picture with another. */
export const HALF = SIDE / 2;

/** A glyph with premultiplied alpha: RGBA, 0 .. 255, rows from the top; full [32, 32, 4] and half [16, 16, 4] size. */
export interface Sprite {
  full: Uint8Array;
  half: Uint8Array;
}

/** Renders SVG documents of 32x32 pixels; libvips' threads work on several at a time. */
export async function renderSprites(svgs: readonly string[], onDone?: (done: number) => void): Promise<Sprite[]> {
  const sprites = new Array<Sprite>(svgs.length);
  let next = 0;
  let done = 0;
  const run = async (): Promise<void> => {
    while (next < svgs.length) {
      const index = next++;
      sprites[index] = await renderSprite(svgs[index]!);
      onDone?.(++done);
    }
  };
  await Promise.all(Array.from({ length: 8 }, run));
  return sprites;
}

async function renderSprite(svg: string): Promise<Sprite> {
  const { data, info } = await sharp(Buffer.from(svg)).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  if (info.width !== SIDE || info.height !== SIDE || info.channels !== 4)
    throw new MotError(
      'ERR_DATA',
      `an emoji came out as ${info.width}x${info.height}; reinstall sharp and the icon sets`,
    );
  const full = new Uint8Array(data.length);
  for (let at = 0; at < data.length; at += 4) {
    const alpha = data[at + 3]!;
    for (let c = 0; c < 3; c++) full[at + c] = Math.round((data[at + c]! * alpha) / 255);
    full[at + 3] = alpha;
  }
  return { full, half: halve(full) };
}

/** Means of 2x2 pixels; right for premultiplied alpha. */
function halve(full: Uint8Array): Uint8Array {
  const half = new Uint8Array(HALF * HALF * 4);
  for (let y = 0; y < HALF; y++)
    for (let x = 0; x < HALF; x++)
      for (let c = 0; c < 4; c++) {
        const at = (2 * y * SIDE + 2 * x) * 4 + c;
        const sum = full[at]! + full[at + 4]! + full[at + SIDE * 4]! + full[at + SIDE * 4 + 4]!;
        half[(y * HALF + x) * 4 + c] = (sum + 2) >> 2;
      }
  return half;
}

/** Draws a premultiplied RGBA square over an RGB picture of 32x32 pixels, its corner at (left, top). */
export function drawOver(picture: Uint8Array, sprite: Uint8Array, side: number, left: number, top: number): void {
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const from = (y * side + x) * 4;
      const to = ((top + y) * SIDE + left + x) * 3;
      const through = 255 - sprite[from + 3]!;
      for (let c = 0; c < 3; c++)
        picture[to + c] = Math.min(255, sprite[from + c]! + Math.round((picture[to + c]! * through) / 255));
    }
}

/** A picture of one colour. */
export function plainPicture(rgb: readonly [number, number, number]): Uint8Array {
  const picture = new Uint8Array(SIDE * SIDE * 3);
  fillSquare(picture, rgb, SIDE, 0, 0);
  return picture;
}

/** Paints a square of an RGB picture of 32x32 pixels, its corner at (left, top). */
export function fillSquare(
  picture: Uint8Array,
  rgb: readonly [number, number, number],
  side: number,
  left: number,
  top: number,
): void {
  for (let y = top; y < top + side; y++) for (let x = left; x < left + side; x++) picture.set(rgb, (y * SIDE + x) * 3);
}
