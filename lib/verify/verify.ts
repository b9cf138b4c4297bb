import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { MotError } from '../errors.js';
import type { Batch } from '../model/batch.js';
import { Model, type ModelConfigInput } from '../model/model.js';
import { loadAddon } from '../native/load.js';
import { packageRoot } from '../package.js';
import { checkConsistency, checkRowsWithoutGradient } from './consistency.js';
import {
  batchOf,
  GOLDEN_ADAMW,
  GOLDEN_STEPS,
  hasExperts,
  readGolden,
  tensorOf,
  writeGolden,
  type GoldenFile,
  type GoldenTensor,
} from './golden.js';
import { BOUNDS, compare, type Comparison, type ValueKind } from './judge.js';

export interface VerifyOptions {
  /** Default `cpu`. */
  device?: 'cpu' | 'reference';
  /** Default `f32`. */
  dtype?: 'f32' | 'bf16';
  /** Default 0: as many as this process may use. */
  threads?: number;
  /** Write what was computed to this file, in the same format. */
  out?: string;
}

export interface VerifyResult {
  file: string;
  device: string;
  dtype: 'f32' | 'bf16';
  threads: number;
  comparisons: Comparison[];
  passed: boolean;
  /** Why fewer values were judged than usual. */
  note?: string;
}

/** Golden files that came with this package. */
export function packagedGoldenFiles(): string[] {
  const folder = join(packageRoot(), 'test', 'golden');
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  return names.sort().map((name) => join(folder, name));
}

/**
 * Computes a golden file and compares every output, loss, gradient, and the weights after ten AdamW steps.
 *
 * In bf16 a wrong number of the file would hide behind the wide bounds, so the file is computed in f32 first and has to
 * pass there too, in all that bf16 judges. Of a model with experts only the losses are judged in bf16 itself.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT for a file that is not golden, ERR_CONFIG, ERR_BATCH,
 *   ERR_NOT_FINITE for one that no model could have, ERR_FILE_WRITE.
 * @example
 * const { passed } = await verifyFile('test/golden/dense.safetensors', { dtype: 'bf16' });
 */
export async function verifyFile(path: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const { device = 'cpu', dtype = 'f32', threads = 0 } = options;
  const file = await readGolden(path);
  const lenient = dtype === 'bf16' && hasExperts(file.config);
  const bounds = lenient ? 'experts_bf16' : dtype;
  const computed = await compute(path, file, device, dtype, threads);
  const comparisons = checkConsistency(path, file);
  if (dtype === 'bf16') {
    const exact = await compute(path, file, device, 'f32', threads);
    for (const row of compareAll(path, file, exact, 'f32'))
      if (BOUNDS.bf16[row.kind as ValueKind] !== null) comparisons.push({ ...row, name: `${row.name} (f32)` });
  }
  comparisons.push(...compareAll(path, file, computed, bounds), ...checkRowsWithoutGradient(file, computed));
  if (options.out !== undefined) await writeGolden(options.out, file.config, computed);
  const used = threads || loadAddon().cpu().threads;
  const passed = comparisons.every((row) => row.passed);
  const note = lenient ? { note: 'experts in bf16: a rounding may choose another one, so only losses are judged' } : {};
  return { file: path, device, dtype, threads: used, comparisons, passed, ...note };
}

/** Everything that a golden file holds, computed from its inputs and weights; in the order of the format. */
async function compute(
  path: string,
  file: GoldenFile,
  device: 'cpu' | 'reference',
  dtype: 'f32' | 'bf16',
  threads: number,
): Promise<Map<string, GoldenTensor>> {
  const batch = batchOf(path, file);
  const tokens = batch.token.length;
  const positions = batch.position.reduce((most, position) => Math.max(most, position + 1), 1);
  await using model = await Model.create(file.model as ModelConfigInput, {
    device,
    dtype,
    threads,
    tokens,
    positions,
    seed: null,
  });
  const { config } = model;
  const names = model.tensors();
  const out = new Map<string, GoldenTensor>();
  const put = (name: string, shape: number[], values: ArrayLike<number>): void => {
    out.set(name, { shape, values: values instanceof Int32Array ? values : Float32Array.from(values) });
  };

  for (const [name, tensor] of file.tensors) if (name.startsWith('in.')) out.set(name, tensor);
  for (const { name, shape } of names) {
    const weights = tensorOf(path, file, `p.${name}`, shape) as Float32Array;
    await model.writeTensor('weight', name, weights);
    out.set(`p.${name}`, { shape, values: weights });
  }
  checkNoOthers(path, file, new Set(names.map(({ name }) => name)));

  const every = Int32Array.from({ length: tokens }, (_, t) => t);
  put('out.hidden', [tokens, config.d_model], await model.forward(batch, every, 'hidden'));
  put('out.logits', [tokens, config.vocab], await model.forward(batch, every, 'logits'));
  await model.zeroGradients();
  const losses = await model.backward(batch);
  put('out.lm_loss', [], [losses.lmLoss]);
  put('out.z_loss', [], [losses.zLoss]);
  put('out.loss', [], [losses.loss]);
  if (losses.imageCount > 0) put('out.diffusion_loss', [], [losses.diffusionSum / losses.imageCount]);
  config.modalities.forEach((modality, m) => {
    const count = losses.targetCount[m]!;
    if (count > 0) put(`out.lm_loss.${modality}`, [], [losses.ceSum[m]! / count]);
  });
  for (const { name, shape } of names) put(`g.${name}`, shape, await model.readTensor('gradient', name));
  const { loss, gradNorm } = await tenSteps(model, batch, file.lr);
  put('train.loss', [GOLDEN_STEPS], loss);
  put('train.grad_norm', [GOLDEN_STEPS], gradNorm);
  for (const { name, shape } of names) put(`after.${name}`, shape, await model.readTensor('weight', name));
  return out;
}

async function tenSteps(model: Model, batch: Batch, lr: number): Promise<{ loss: number[]; gradNorm: number[] }> {
  const loss: number[] = [];
  const gradNorm: number[] = [];
  for (let step = 1; step <= GOLDEN_STEPS; step++) {
    const result = await model.step([batch], { ...GOLDEN_ADAMW, lr, step });
    loss.push(result.loss);
    gradNorm.push(result.gradNorm);
  }
  return { loss, gradNorm };
}

/** A weight or result that the model does not have is a sign of another model. */
function checkNoOthers(path: string, file: GoldenFile, weights: ReadonlySet<string>): void {
  for (const name of file.tensors.keys()) {
    const [, group, rest] = /^(p|g|after)\.(.*)$/.exec(name) ?? [];
    if (group !== undefined && !weights.has(rest!))
      throw new MotError('ERR_FILE_FORMAT', `${path}: the model of its config has no weight for ${name}.`);
    if (group === undefined && !/^(in|out|train)\./.test(name))
      throw new MotError('ERR_FILE_FORMAT', `${path}: ${name} is no tensor of a golden file.`);
  }
}

function kindOf(name: string): ValueKind {
  if (name === 'out.hidden' || name === 'out.logits') return 'hidden';
  if (name === 'out.loss' || name === 'out.lm_loss') return 'loss';
  if (name.startsWith('out.')) return 'part of the loss';
  if (name.startsWith('g.')) return 'gradient';
  if (name === 'train.loss') return 'ten losses';
  return name === 'train.grad_norm' ? 'ten norms' : 'weights';
}

/**
 * Weights whose first update does not hang on rounding: AdamW moves a weight by the learning rate even if its gradient
 * is almost nothing, and then rounding decides which way.
 */
function wellDetermined(file: GoldenFile, name: string): (index: number) => boolean {
  const gradient = file.tensors.get(`g.${name}`)!.values;
  let sum = 0;
  for (const value of gradient) sum += value * value;
  const least = 0.01 * Math.sqrt(sum / gradient.length);
  return (index) => Math.abs(gradient[index]!) >= least;
}

function compareAll(
  path: string,
  file: GoldenFile,
  computed: ReadonlyMap<string, GoldenTensor>,
  bounds: keyof typeof BOUNDS,
): Comparison[] {
  const rows: Comparison[] = [];
  for (const [name, { shape, values }] of computed) {
    if (/^(in|p)\./.test(name)) continue;
    const kind = kindOf(name);
    const judged = kind === 'weights' ? wellDetermined(file, name.slice('after.'.length)) : undefined;
    rows.push(compare(name, kind, values, tensorOf(path, file, name, shape), BOUNDS[bounds][kind], judged));
  }
  for (const name of file.tensors.keys())
    if (/^(out|train)\./.test(name) && !computed.has(name))
      throw new MotError('ERR_FILE_FORMAT', `${path}: ${name} is nothing that a model of its config computes.`);
  return rows;
}
