import { MotError } from '../errors.js';

/** A tensor of a tokenizer file. */
export interface NamedTensor {
  shape: number[];
  data: Float32Array;
}

/** The tensors of a tokenizer, by name; what its safetensors file holds. */
export type TensorSet = Record<string, NamedTensor>;

/** The tensor `name`, checked. A negative number in `shape` stands for any length. */
export function expectTensor(tensors: TensorSet, name: string, shape: number[]): NamedTensor {
  const tensor = tensors[name];
  const fits =
    tensor !== undefined &&
    tensor.shape.length === shape.length &&
    tensor.shape.every((length, i) => length >= 1 && (shape[i]! < 0 || length === shape[i])) &&
    tensor.shape.reduce((product, length) => product * length, 1) === tensor.data.length;
  if (!fits) {
    const wanted = shape.map((length) => (length < 0 ? 'any' : length)).join(', ');
    throw new MotError(
      'ERR_FILE_FORMAT',
      `tokenizer file: expected a tensor ${name} of shape [${wanted}], got ` +
        `${tensor ? `[${tensor.shape.join(', ')}]` : 'none'}; prepare the data set again`,
    );
  }
  if (!tensor.data.every(Number.isFinite)) {
    throw new MotError('ERR_NOT_FINITE', `tokenizer file: ${name} holds NaN or infinite numbers`);
  }
  return tensor;
}
