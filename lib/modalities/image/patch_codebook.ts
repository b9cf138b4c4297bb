import { MotError } from '../../errors.js';
import { CodeSearch, kmeansSteps } from '../kmeans.js';
import { randomKey, randomUniform } from '../random.js';
import { principalAxesSteps, rotate, rotateBack, rotateSteps, type Rotation } from '../rotation.js';
import { expectTensor, type TensorSet } from '../tensors.js';
import { pass, runHere, runOnThreads, shared, sharedFloat64, type Loop, type Steps } from '../training_steps.js';
import type { Picture, SpanRule, Tokenizer } from '../tokenizer.js';
import { checkPicture, patchGrid, readPatch, writePatch, type PatchGrid } from './patches.js';

/** Options of ImageTokenizer.train(). */
export interface ImageTokenizerOptions {
  /** Side of the square pictures in pixels. Default 32. */
  pictureSize?: number;
  /** Side of the square patches in pixels. Default 4. */
  patchSize?: number;
  /** Codes of a stage. Default 512. */
  codes?: number;
  /** Stages, that is codes of a patch. Default 2. */
  stages?: number;
  /** Patches to learn from, drawn evenly from all pictures. Default 60000. */
  patches?: number;
  /** Rounds in which all codebooks are fitted together. Default 3. */
  rounds?: number;
  /** Default 0. */
  seed?: number;
}

/** Codes of the first stage that encode() tries for a patch. */
const CANDIDATES = 4;

/** Iterations of k-means in a stage: fitting the stages together afterwards is worth more than further ones. */
const ITERATIONS = 6;

/** Patches whose codes are remembered (pictures repeat many: background, the same motif); then it starts afresh. */
const REMEMBERED_PATCHES = 100_000;

/**
 * Pictures as codes of their patches. A patch is the sum of one code of each stage (residual k-means, the codebooks
 * then fitted together). Ids run patch by patch, stages within a patch; local id = stage * codes + code.
 */
export class ImageTokenizer implements Tokenizer<Picture> {
  readonly modality = 'image';
  readonly size: number;
  /** Ids of a whole picture. */
  readonly length: number;
  readonly grid: PatchGrid;
  readonly stages: number;
  /** Codes of a stage. */
  readonly codes: number;
  readonly #rotation: Rotation;
  /** Rotated codes: per stage [codes, d]. */
  readonly #books: Float32Array[];
  /** The same as pixels [stages * codes, d], by local id. */
  readonly #pixels: Float32Array;
  readonly #encoder: PatchEncoder;
  /** Ids of patches by their bytes. */
  readonly #remembered = new Map<string, Int32Array>();

  private constructor(grid: PatchGrid, rotation: Rotation, books: Float32Array[]) {
    this.grid = grid;
    this.stages = books.length;
    this.codes = books[0]!.length / grid.dim;
    this.size = this.stages * this.codes;
    this.length = grid.count * this.stages;
    this.#rotation = rotation;
    this.#books = books;
    this.#pixels = new Float32Array(this.size * grid.dim);
    books.forEach((book, stage) => {
      for (let code = 0; code < this.codes; code++) {
        const id = stage * this.codes + code;
        this.#pixels.set(rotateBack(rotation, book, code * grid.dim, false), id * grid.dim);
      }
    });
    this.#encoder = new PatchEncoder(books, grid.dim);
  }

  /** Learns codebooks from pictures of the right size. Deterministic. */
  static train(pictures: readonly Picture[], options: ImageTokenizerOptions = {}): ImageTokenizer {
    return runHere(ImageTokenizer.#trainSteps(pictures, options));
  }

  /** train() on so many threads, of which this is one and busy meanwhile; the result is the same. */
  static trainOnThreads(
    pictures: readonly Picture[],
    options: ImageTokenizerOptions,
    threads: number,
  ): Promise<ImageTokenizer> {
    return runOnThreads(ImageTokenizer.#trainSteps(pictures, options), threads);
  }

  static *#trainSteps(pictures: readonly Picture[], options: ImageTokenizerOptions): Steps<ImageTokenizer> {
    const { pictureSize = 32, patchSize = 4, codes = 512, stages = 2, seed = 0, rounds = 3 } = options;
    const grid = patchGrid(pictureSize, patchSize);
    if (pictures.length === 0) throw new MotError('ERR_ARGUMENT', 'ImageTokenizer.train needs at least one picture');
    for (const picture of pictures) checkPicture(grid, picture);
    const { patches: raw, weights } = samplePatches(grid, pictures, options.patches ?? 60000, seed);
    const rotation = yield* principalAxesSteps(raw, grid.dim);
    const patches = yield* rotateSteps(rotation, raw);

    const books: Float32Array[] = [];
    const residual = shared(patches);
    for (let stage = 0; stage < stages; stage++) {
      const own = { codes, weights, iterations: ITERATIONS, seed: seed + stage };
      const result = yield* kmeansSteps(residual, grid.dim, own);
      books.push(result.codes);
      result.assignment.forEach((code, i) => addCode(residual, i, result.codes, code, grid.dim, -1));
    }
    if (stages > 1) for (let round = 0; round < rounds; round++) yield* fitTogether(patches, weights, grid.dim, books);
    return new ImageTokenizer(grid, rotation, books);
  }

  encode(picture: Picture): Int32Array {
    checkPicture(this.grid, picture);
    const ids = new Int32Array(this.length);
    const patch = Buffer.alloc(this.grid.dim);
    for (let index = 0; index < this.grid.count; index++) {
      readPatch(this.grid, picture.data, index, patch, 0);
      const key = patch.toString('latin1');
      let known = this.#remembered.get(key);
      if (known === undefined) {
        if (this.#remembered.size >= REMEMBERED_PATCHES) this.#remembered.clear();
        known = this.#encodePatch(patch);
        this.#remembered.set(key, known);
      }
      ids.set(known, index * this.stages);
    }
    return ids;
  }

  #encodePatch(patch: Uint8Array): Int32Array {
    const rotated = new Float64Array(this.grid.dim);
    rotate(this.#rotation, Float64Array.from(patch), 0, rotated, 0);
    const ids = new Int32Array(this.stages);
    this.#encoder.encode(rotated, 0, ids);
    return ids.map((code, stage) => stage * this.codes + code);
  }

  /** Patches without ids have the mean colour; ids beyond a whole picture are ignored. */
  decode(ids: ArrayLike<number>): Picture {
    const { dim, count, pictureSize } = this.grid;
    const data = new Uint8ClampedArray(pictureSize * pictureSize * 3);
    const patch = new Float64Array(dim);
    for (let index = 0; index < count; index++) {
      patch.set(this.#rotation.mean);
      for (let at = index * this.stages; at < Math.min((index + 1) * this.stages, ids.length); at++) {
        const id = ids[at]!;
        if (!(id >= 0 && id < this.size)) {
          throw new MotError('ERR_ARGUMENT', `image id ${id} at ${at} is not in [0, ${this.size})`);
        }
        for (let i = 0; i < dim; i++) patch[i]! += this.#pixels[id * dim + i]!;
      }
      writePatch(this.grid, data, index, patch);
    }
    return { width: pictureSize, height: pictureSize, data: new Uint8Array(data.buffer) };
  }

  /** The stages take turns; a picture ends when it is whole. */
  rule(length: number): SpanRule {
    if (length >= this.length) return { begin: 0, end: 0, mayEnd: true };
    const begin = (length % this.stages) * this.codes;
    return { begin, end: begin + this.codes, mayEnd: false };
  }

  /** `grid` [2] (picture size, patch size), `mean` [d], `basis` [d, d], `codes` [stages, codes, d]. */
  toTensors(): TensorSet {
    const { dim, pictureSize, patchSize } = this.grid;
    const codes = new Float32Array(this.size * dim);
    this.#books.forEach((book, stage) => codes.set(book, stage * book.length));
    return {
      grid: { shape: [2], data: Float32Array.of(pictureSize, patchSize) },
      mean: { shape: [dim], data: this.#rotation.mean },
      basis: { shape: [dim, dim], data: this.#rotation.basis },
      codes: { shape: [this.stages, this.codes, dim], data: codes },
    };
  }

  static fromTensors(tensors: TensorSet): ImageTokenizer {
    const [pictureSize, patchSize] = expectTensor(tensors, 'grid', [2]).data;
    const grid = patchGrid(pictureSize!, patchSize!);
    const mean = expectTensor(tensors, 'mean', [grid.dim]).data;
    const basis = expectTensor(tensors, 'basis', [grid.dim, grid.dim]).data;
    const codes = expectTensor(tensors, 'codes', [-1, -1, grid.dim]);
    const stages = codes.shape[0]!;
    const each = codes.data.length / stages;
    const books = Array.from({ length: stages }, (_, stage) => codes.data.slice(stage * each, (stage + 1) * each));
    return new ImageTokenizer(grid, { mean, basis }, books);
  }
}

/** Finds the codes whose sum is near a patch: the nearest few codes of a stage, each with the best of what follows. */
class PatchEncoder {
  readonly #dim: number;
  readonly #books: Float32Array[];
  readonly #searches: CodeSearch[];
  /** Scratch of each stage: what is left of the patch, candidate codes and their distances. */
  readonly #residuals: Float64Array[];
  readonly #candidates: Int32Array[];
  readonly #distances: Float64Array[];
  readonly #path: Int32Array;

  constructor(books: Float32Array[], dim: number) {
    this.#dim = dim;
    this.#books = books;
    this.#searches = books.map((book) => new CodeSearch(book, dim));
    const width = Math.min(CANDIDATES, books[0]!.length / dim);
    this.#residuals = books.map(() => new Float64Array(dim));
    this.#candidates = books.map(() => new Int32Array(width));
    this.#distances = books.map(() => new Float64Array(width));
    this.#path = new Int32Array(books.length);
  }

  /** Writes the code of each stage into `codes`; returns the squared error. */
  encode(patches: Float64Array, offset: number, codes: Int32Array): number {
    for (let i = 0; i < this.#dim; i++) this.#residuals[0]![i] = patches[offset + i]!;
    return this.#descend(0, Infinity, codes);
  }

  /** Best error below `bound` from this stage on; where there is one, `codes` holds its path. */
  #descend(stage: number, bound: number, codes: Int32Array): number {
    const dim = this.#dim;
    const residual = this.#residuals[stage]!;
    const search = this.#searches[stage]!;
    if (stage === this.#books.length - 1) {
      const code = search.nearest(residual, 0, -1, bound);
      if (code < 0) return bound;
      this.#path[stage] = code;
      codes.set(this.#path);
      return search.distance;
    }
    const candidates = this.#candidates[stage]!;
    const next = this.#residuals[stage + 1]!;
    search.nearestSeveral(residual, 0, candidates, this.#distances[stage]!);
    let best = bound;
    for (const code of candidates) {
      this.#path[stage] = code;
      const book = this.#books[stage]!;
      for (let i = 0; i < dim; i++) next[i] = residual[i]! - book[code * dim + i]!;
      best = this.#descend(stage + 1, best, codes);
    }
    return best;
  }
}

/** One round of fitting all stages together: encode with all books, then each book in turn becomes the mean of what
 * the others leave. A code that no patch uses stays where it is. */
function* fitTogether(patches: Float64Array, weights: Float64Array, dim: number, books: Float32Array[]): Steps<void> {
  const n = patches.length / dim;
  const paths = new Int32Array(new SharedArrayBuffer(4 * n * books.length));
  const residual = shared(patches);
  yield* pass('encodePaths', encodePaths, { patches, dim, books, paths, residual }, n);
  books.forEach((book, stage) => {
    const count = book.length / dim;
    const sum = new Float64Array(book.length);
    const members = new Float64Array(count);
    for (let i = 0; i < n; i++) {
      const code = paths[i * books.length + stage]!;
      addCode(residual, i, book, code, dim, 1);
      members[code]! += weights[i]!;
      for (let j = 0; j < dim; j++) sum[code * dim + j]! += weights[i]! * residual[i * dim + j]!;
    }
    for (let code = 0; code < count; code++) {
      if (members[code] === 0) continue;
      for (let j = 0; j < dim; j++) book[code * dim + j] = sum[code * dim + j]! / members[code]!;
    }
    for (let i = 0; i < n; i++) addCode(residual, i, book, paths[i * books.length + stage]!, dim, -1);
  });
}

/** A loop over patches: the codes of each [n, stages], and what they leave of it, `residual` [n, d], first the patch. */
export function encodePaths(task: {
  patches: Float64Array;
  dim: number;
  books: Float32Array[];
  paths: Int32Array;
  residual: Float64Array;
}): Loop {
  const { patches, dim, books, paths, residual } = task;
  const encoder = new PatchEncoder(books, dim);
  const codes = new Int32Array(books.length);
  return (begin, end) => {
    for (let i = begin; i < end; i++) {
      encoder.encode(patches, i * dim, codes);
      paths.set(codes, i * books.length);
      books.forEach((book, stage) => addCode(residual, i, book, codes[stage]!, dim, -1));
    }
    return 0;
  };
}

/** vectors[i] += sign * book[code]. */
function addCode(vectors: Float64Array, i: number, book: Float32Array, code: number, dim: number, sign: number): void {
  for (let j = 0; j < dim; j++) vectors[i * dim + j]! += sign * book[code * dim + j]!;
}

/**
 * `wanted` patches (or all, when there are fewer), one at random from each of equal stretches of all patches: the
 * distinct ones [n, d] and how often each was drawn.
 */
function samplePatches(
  grid: PatchGrid,
  pictures: readonly Picture[],
  wanted: number,
  seed: number,
): { patches: Float64Array; weights: Float64Array } {
  const total = pictures.length * grid.count;
  const drawn = Math.min(wanted, total);
  const key = randomKey(seed, 'patches');
  const counts = new Map<string, number>();
  const patch = Buffer.alloc(grid.dim);
  for (let i = 0; i < drawn; i++) {
    const place = drawn === total ? i : Math.floor(((i + randomUniform(key, i)) * total) / drawn);
    readPatch(grid, pictures[Math.floor(place / grid.count)]!.data, place % grid.count, patch, 0);
    const bytes = patch.toString('latin1');
    counts.set(bytes, (counts.get(bytes) ?? 0) + 1);
  }
  const patches = sharedFloat64(counts.size * grid.dim);
  [...counts.keys()].forEach((bytes, i) => patches.set(Buffer.from(bytes, 'latin1'), i * grid.dim));
  return { patches, weights: Float64Array.from(counts.values()) };
}
