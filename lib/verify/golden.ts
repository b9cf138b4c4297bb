/**
 * Golden files: one small model's inputs, weights, outputs, every gradient and ten steps of AdamW, computed in float64.
 * Safetensors, F32 and I32; the metadata key `config` holds JSON: the model's config and, beside it, `lr` of the ten
 * steps and notes on how the file was made (`present`, `lengths`, `window`, `seed`).
 *
 *     in.token in.modality in.position in.kv_start in.kv_end in.target in.target_modality   I32 [N]
 *     in.patch_row I32 [N]   in.image_of_row I32 [R]   in.timestep I32 [images]   with diffusion
 *     in.latent in.noise   [R, P]   with diffusion
 *     p.NAME       weights
 *     out.hidden   [N, D]   out.logits [N, V]
 *     out.loss  out.lm_loss  out.z_loss  out.lm_loss.MODALITY (of those predicted)          scalars
 *     out.diffusion_loss                                                                    scalar, with diffusion
 *     g.NAME       gradients of out.loss
 *     train.loss  train.grad_norm   [10], of steps on the same batch, before each update
 *     after.NAME   weights after them
 */
import { MotError } from '../errors.js';
import { SafetensorsFile, writeSafetensors } from '../io/safetensors.js';
import type { Batch, Patches } from '../model/batch.js';

/** Keys of the config that are not the model's. */
const NOTES = ['lr', 'present', 'lengths', 'window', 'seed'];

/** AdamW of the ten steps; `lr` is in the file's config. */
export const GOLDEN_ADAMW = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, clip: 1 };
export const GOLDEN_STEPS = 10;

/** Patches where the model has diffusion. */
export type GoldenBatch = Batch & Required<Omit<Batch, keyof Patches>>;

export type GoldenValues = Float32Array | Int32Array;

export interface GoldenTensor {
  shape: number[];
  values: GoldenValues;
}

export interface GoldenFile {
  /** The whole config, as in the metadata. */
  config: Record<string, unknown>;
  /** The model's part of it. */
  model: Record<string, unknown>;
  lr: number;
  tensors: Map<string, GoldenTensor>;
}

/**
 * Reads a golden file.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT.
 */
export async function readGolden(path: string): Promise<GoldenFile> {
  using file = await SafetensorsFile.open(path);
  const config = parseConfig(path, file.metadata['config']);
  const model = Object.fromEntries(Object.entries(config).filter(([key]) => !NOTES.includes(key)));
  const lr = config['lr'];
  if (typeof lr !== 'number' || !(lr > 0)) throw new MotError('ERR_FILE_FORMAT', `${path}: its config has no lr.`);
  const tensors = new Map<string, GoldenTensor>();
  for (const { name, dtype, shape } of file.tensors) {
    if (dtype !== 'F32' && dtype !== 'I32')
      throw new MotError('ERR_FILE_FORMAT', `${path}: ${name} is ${dtype}; golden files hold F32 and I32.`);
    tensors.set(name, { shape, values: file.read(name) as GoldenValues });
  }
  return { config, model, lr, tensors };
}

function parseConfig(path: string, text: string | undefined): Record<string, unknown> {
  if (text === undefined)
    throw new MotError(
      'ERR_FILE_FORMAT',
      `${path} is not a golden file: its metadata has no config; see \`mot verify --help\`.`,
    );
  try {
    const config: unknown = JSON.parse(text);
    if (typeof config === 'object' && config !== null && !Array.isArray(config))
      return config as Record<string, unknown>;
  } catch {
    // Reported below.
  }
  throw new MotError('ERR_FILE_FORMAT', `${path}: the config in its metadata is not a JSON object.`);
}

/** Whether the file's model is a mixture of experts. */
export function hasExperts(config: Record<string, unknown>): boolean {
  const value = config['experts'];
  return typeof value === 'object' && value !== null && Object.keys(value).length > 0;
}

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * A tensor of the file, of the shape that the config demands.
 *
 * @throws MotError ERR_FILE_FORMAT.
 */
export function tensorOf(
  path: string,
  file: GoldenFile,
  name: string,
  shape: readonly number[],
  integer = false,
): GoldenValues {
  const tensor = file.tensors.get(name);
  if (!tensor) throw new MotError('ERR_FILE_FORMAT', `${path}: the tensor ${name} is missing.`);
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i]))
    throw new MotError('ERR_FILE_FORMAT', `${path}: ${name} must have shape [${shape}], got [${tensor.shape}].`);
  if (tensor.values instanceof Int32Array !== integer)
    throw new MotError('ERR_FILE_FORMAT', `${path}: ${name} must be ${integer ? 'I32' : 'F32'}.`);
  return tensor.values;
}

/** The file's batch. */
export function batchOf(path: string, file: GoldenFile): GoldenBatch {
  const tokens = file.tensors.get('in.token')?.shape[0] ?? 0;
  const get = (name: string): Int32Array => tensorOf(path, file, `in.${name}`, [tokens], true) as Int32Array;
  return {
    token: get('token'),
    modality: get('modality'),
    position: get('position'),
    kvStart: get('kv_start'),
    kvEnd: get('kv_end'),
    target: get('target'),
    targetModality: get('target_modality'),
    ...(file.tensors.has('in.patch_row') ? { patchRow: get('patch_row'), ...patchesOf(path, file) } : {}),
  };
}

function patchesOf(path: string, file: GoldenFile): Omit<Required<Patches>, 'patchRow'> {
  const rows = file.tensors.get('in.latent')?.shape[0] ?? 0;
  const width = file.tensors.get('in.latent')?.shape[1] ?? 0;
  const images = file.tensors.get('in.timestep')?.shape[0] ?? 0;
  return {
    latent: tensorOf(path, file, 'in.latent', [rows, width]) as Float32Array,
    noise: tensorOf(path, file, 'in.noise', [rows, width]) as Float32Array,
    imageOfRow: tensorOf(path, file, 'in.image_of_row', [rows], true) as Int32Array,
    timestep: tensorOf(path, file, 'in.timestep', [images], true) as Int32Array,
  };
}

/** Writes tensors and config in the format of golden files. MotError ERR_FILE_WRITE. */
export async function writeGolden(
  path: string,
  config: Record<string, unknown>,
  tensors: ReadonlyMap<string, GoldenTensor>,
): Promise<void> {
  const list = [...tensors].map(([name, { shape, values }]) => ({ name, shape, data: values }));
  await writeSafetensors(path, list, { config: JSON.stringify(config) });
}
