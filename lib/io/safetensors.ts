import { MotError } from '../errors.js';
import { loadAddon } from '../native/load.js';
import type { NativeSafetensors } from '../native/types.js';

/** What a tensor is read into: F32 and BF16, I32, U8, I64, F64. */
export type TensorValues = Float32Array | Int32Array | Uint8Array | BigInt64Array | Float64Array;

/** One tensor of a file. */
export interface TensorInfo {
  name: string;
  /** As in the format: `F32`, `BF16`, `I32`, ... */
  dtype: string;
  shape: number[];
}

/** A tensor to write; the dtype follows from the array: F32, I32, U8, I64, F64. */
export interface TensorToWrite {
  name: string;
  /** Default: one dimension. */
  shape?: readonly number[];
  data: TensorValues;
}

const DTYPES: Record<string, string> = {
  Float32Array: 'F32',
  Int32Array: 'I32',
  Uint8Array: 'U8',
  BigInt64Array: 'I64',
  Float64Array: 'F64',
};

/**
 * Writes a safetensors file: under a temporary name beside it, synced, then renamed, so that `path` is either whole or
 * what it was before.
 *
 * @param tensors By name, in the order of the file; a bare array has one dimension.
 * @param metadata Texts by key.
 * @returns CRC-32 of the whole file, 8 hexadecimal digits.
 * @throws MotError ERR_FILE_WRITE (full disk, missing folder, no permission), ERR_ARGUMENT.
 * @example
 * await writeSafetensors('points.safetensors', { points: { shape: [2, 2], data: Float32Array.of(0, 1, 2, 3) } });
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[] | Readonly<Record<string, TensorValues | Omit<TensorToWrite, 'name'>>>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<string> {
  const list = Array.isArray(tensors)
    ? (tensors as readonly TensorToWrite[])
    : Object.entries(tensors as Record<string, TensorValues | Omit<TensorToWrite, 'name'>>).map(([name, tensor]) =>
        ArrayBuffer.isView(tensor) ? { name, data: tensor } : { name, ...tensor },
      );
  const plain = list.map(({ name, shape, data }) => {
    // By name: a Buffer is a Uint8Array too, and test runners have globals of their own.
    const dtype = DTYPES[Object.prototype.toString.call(data).slice(8, -1)];
    if (dtype === undefined)
      throw new MotError('ERR_ARGUMENT', `tensor ${name} must be one of ${Object.keys(DTYPES).join(', ')}.`);
    return { name, dtype, shape: [...(shape ?? [data.length])], data };
  });
  return loadAddon().writeSafetensors(path, plain, { ...metadata });
}

/** An open safetensors file. Close it, or declare it with `using`. */
export class SafetensorsFile {
  /** In the order of their data. */
  readonly tensors: readonly TensorInfo[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly path: string;
  readonly #native: NativeSafetensors;
  readonly #index: ReadonlyMap<string, TensorInfo>;

  private constructor(path: string, native: NativeSafetensors) {
    this.path = path;
    this.#native = native;
    this.tensors = native.tensors();
    this.metadata = native.metadata();
    this.#index = new Map(this.tensors.map((tensor) => [tensor.name, tensor]));
  }

  /**
   * Opens a file and checks its header whole: offsets, shapes, names.
   *
   * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT with path and reason.
   * @example
   * using file = await SafetensorsFile.open('points.safetensors');
   * const points = file.read('points') as Float32Array;
   */
  static async open(path: string): Promise<SafetensorsFile> {
    return new SafetensorsFile(path, loadAddon().openSafetensors(path));
  }

  /** True when the file has a tensor of that name. */
  has(name: string): boolean {
    return this.#index.has(name);
  }

  /** Dtype and shape of a tensor. MotError ERR_TENSOR_NAME when there is none of that name. */
  info(name: string): TensorInfo {
    const tensor = this.#index.get(name);
    if (!tensor) throw new MotError('ERR_TENSOR_NAME', `${this.path} has no tensor ${name}.`);
    return tensor;
  }

  /** A whole tensor, copied; BF16 becomes Float32Array. MotError ERR_TENSOR_NAME, ERR_UNSUPPORTED for other dtypes. */
  read(name: string): TensorValues {
    const { shape } = this.info(name);
    return this.readRange(
      name,
      0,
      shape.reduce((count, size) => count * size, 1),
    );
  }

  /**
   * Elements `begin <= i < end` of a tensor, row-major, copied. Reading is synchronous: read large tensors in pieces.
   *
   * @throws MotError ERR_TENSOR_NAME, ERR_ARGUMENT for a range outside the tensor, ERR_UNSUPPORTED, ERR_FILE_FORMAT when
   *   the file was cut short after it was opened.
   */
  readRange(name: string, begin: number, end: number): TensorValues {
    const { dtype } = this.info(name);
    const convert = CONVERT[dtype];
    if (!convert)
      throw new MotError(
        'ERR_UNSUPPORTED',
        `tensor ${name} of ${this.path} is ${dtype}; this version reads ${Object.keys(CONVERT).join(', ')}.`,
      );
    return convert(this.#native.read(name, begin, end));
  }

  /** Releases the file. Idempotent; reading afterwards is an error. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const CONVERT: Record<string, (bytes: ArrayBuffer) => TensorValues> = {
  F32: (bytes) => new Float32Array(bytes),
  BF16: (bytes) => {
    const upper = new Uint16Array(bytes);
    const bits = new Uint32Array(upper.length);
    for (let i = 0; i < upper.length; i++) bits[i] = upper[i]! << 16;
    return new Float32Array(bits.buffer);
  },
  I32: (bytes) => new Int32Array(bytes),
  U8: (bytes) => new Uint8Array(bytes),
  BOOL: (bytes) => new Uint8Array(bytes),
  I64: (bytes) => new BigInt64Array(bytes),
  F64: (bytes) => new Float64Array(bytes),
};
