import { MotError } from '../../errors.js';
import type { LatentCodec } from '../codec.js';
import { expectTensor, type TensorSet } from '../tensors.js';
import type { Picture } from '../tokenizer.js';
import { checkPicture, patchGrid, readPatch, writePatch, type PatchGrid } from './patches.js';

/** Options of PixelCodec.fit(). */
export interface PixelCodecOptions {
  /** Side of the square pictures in pixels. Default 32. */
  pictureSize?: number;
  /** Side of the square patches in pixels. Default 4. */
  patchSize?: number;
}

/**
 * Pictures as the pixels of their patches, row by row: each colour channel shifted and scaled to mean 0 and standard
 * deviation 1. Without loss.
 */
export class PixelCodec implements LatentCodec<Picture> {
  readonly modality = 'image';
  readonly patches: number;
  readonly patchDim: number;
  readonly range: readonly [number, number];
  readonly grid: PatchGrid;
  /** Of the channels red, green, blue [3], in bytes. */
  readonly #mean: Float32Array;
  readonly #deviation: Float32Array;

  private constructor(grid: PatchGrid, mean: Float32Array, deviation: Float32Array) {
    this.grid = grid;
    this.patches = grid.count;
    this.patchDim = grid.dim;
    this.#mean = mean;
    this.#deviation = deviation;
    const at = (byte: number): number[] => Array.from(mean, (m, c) => (byte - m) / deviation[c]!);
    this.range = [Math.min(...at(0)), Math.max(...at(255))];
  }

  /** Takes mean and standard deviation of each channel from pictures. Deterministic. */
  static fit(pictures: readonly Picture[], options: PixelCodecOptions = {}): PixelCodec {
    const { pictureSize = 32, patchSize = 4 } = options;
    const grid = patchGrid(pictureSize, patchSize);
    if (pictures.length === 0) throw new MotError('ERR_ARGUMENT', 'PixelCodec.fit needs at least one picture');
    // Sums of bytes and their squares are exact.
    const sums = [0, 0, 0];
    const squares = [0, 0, 0];
    for (const picture of pictures) {
      checkPicture(grid, picture);
      picture.data.forEach((byte, i) => {
        sums[i % 3]! += byte;
        squares[i % 3]! += byte * byte;
      });
    }
    const count = pictures.length * pictureSize * pictureSize;
    const mean = Float32Array.from(sums, (sum) => sum / count);
    const deviation = Float32Array.from(squares, (square, c) => Math.sqrt(square / count - (sums[c]! / count) ** 2));
    // A channel that never changes is only shifted.
    return new PixelCodec(
      grid,
      mean,
      deviation.map((d) => (d > 0.5 ? d : 1)),
    );
  }

  encode(picture: Picture): Float32Array {
    checkPicture(this.grid, picture);
    const latent = new Float32Array(this.patches * this.patchDim);
    const patch = new Uint8Array(this.patchDim);
    for (let index = 0; index < this.patches; index++) {
      readPatch(this.grid, picture.data, index, patch, 0);
      for (let i = 0; i < this.patchDim; i++)
        latent[index * this.patchDim + i] = (patch[i]! - this.#mean[i % 3]!) / this.#deviation[i % 3]!;
    }
    return latent;
  }

  decode(latent: ArrayLike<number>): Picture {
    const expected = this.patches * this.patchDim;
    if (latent.length !== expected)
      throw new MotError('ERR_ARGUMENT', `the latents of a picture are ${expected} numbers, got ${latent.length}`);
    const size = this.grid.pictureSize;
    const data = new Uint8ClampedArray(size * size * 3);
    const patch = new Float64Array(this.patchDim);
    for (let index = 0; index < this.patches; index++) {
      for (let i = 0; i < this.patchDim; i++)
        patch[i] = latent[index * this.patchDim + i]! * this.#deviation[i % 3]! + this.#mean[i % 3]!;
      writePatch(this.grid, data, index, patch);
    }
    return { width: size, height: size, data: new Uint8Array(data.buffer) };
  }

  /** `grid` [2] (picture size, patch size), `mean` [3], `deviation` [3]. */
  toTensors(): TensorSet {
    const { pictureSize, patchSize } = this.grid;
    return {
      grid: { shape: [2], data: Float32Array.of(pictureSize, patchSize) },
      mean: { shape: [3], data: this.#mean },
      deviation: { shape: [3], data: this.#deviation },
    };
  }

  static fromTensors(tensors: TensorSet): PixelCodec {
    const [pictureSize, patchSize] = expectTensor(tensors, 'grid', [2]).data;
    const mean = expectTensor(tensors, 'mean', [3]).data;
    const deviation = expectTensor(tensors, 'deviation', [3]).data;
    if (!deviation.every((d) => d > 0))
      throw new MotError('ERR_FILE_FORMAT', 'codec file: deviation must be above 0; prepare the data set again');
    return new PixelCodec(patchGrid(pictureSize!, patchSize!), mean, deviation);
  }
}
