import { MotError } from '../../errors.js';
import type { Picture } from '../tokenizer.js';

/** A picture as its square patches, row by row; a patch is [size, size, 3], values 0 .. 255. */
export interface PatchGrid {
  /** Side of the picture and of a patch, in pixels. */
  pictureSize: number;
  patchSize: number;
  /** Patches along a side, in all, and numbers in one. */
  side: number;
  count: number;
  dim: number;
}

/** The grid of square pictures cut into square patches. */
export function patchGrid(pictureSize: number, patchSize: number): PatchGrid {
  const side = pictureSize / patchSize;
  if (!Number.isInteger(side) || side < 1 || !Number.isInteger(patchSize)) {
    throw new MotError('ERR_ARGUMENT', `patches of ${patchSize} pixels do not tile pictures of ${pictureSize} pixels`);
  }
  return { pictureSize, patchSize, side, count: side * side, dim: 3 * patchSize * patchSize };
}

/** Throws unless the picture has the size of the grid and all its bytes. */
export function checkPicture(grid: PatchGrid, picture: Picture): void {
  const { width, height, data } = picture;
  if (width !== grid.pictureSize || height !== grid.pictureSize || data.length !== width * height * 3) {
    throw new MotError(
      'ERR_ARGUMENT',
      `expected an RGB picture of ${grid.pictureSize}x${grid.pictureSize} pixels, got ${width}x${height} with ` +
        `${data.length} bytes; resize it first (decodeImage does)`,
    );
  }
}

/** Copies patch `index` of a picture into `patch[offset ... + dim)`. */
export function readPatch(
  grid: PatchGrid,
  data: Uint8Array,
  index: number,
  patch: Float64Array | Uint8Array,
  offset: number,
): void {
  const rowLength = grid.patchSize * 3;
  let from = pixelOffset(grid, index);
  for (let y = 0; y < grid.patchSize; y++, from += grid.pictureSize * 3) {
    for (let i = 0; i < rowLength; i++) patch[offset++] = data[from + i]!;
  }
}

/** Writes a patch into a picture; the bytes are rounded and clamped by the array. */
export function writePatch(grid: PatchGrid, data: Uint8ClampedArray, index: number, patch: ArrayLike<number>): void {
  const rowLength = grid.patchSize * 3;
  let to = pixelOffset(grid, index);
  for (let y = 0, i = 0; y < grid.patchSize; y++, to += grid.pictureSize * 3) {
    for (let x = 0; x < rowLength; x++) data[to + x] = patch[i++]!;
  }
}

function pixelOffset(grid: PatchGrid, index: number): number {
  const row = Math.floor(index / grid.side);
  return (row * grid.pictureSize + (index % grid.side)) * grid.patchSize * 3;
}
