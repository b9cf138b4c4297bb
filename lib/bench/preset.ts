import { parseModelConfig, type ModelConfig } from '../config/model_config.js';
import { findPreset, presetHint } from '../config/presets.js';
import { MotError } from '../errors.js';
import { machineMemory } from '../machine.js';
import type { Batch } from '../model/batch.js';
import { Model } from '../model/model.js';
import type { PresetTimes } from './child.js';
import { inChild } from './in_child.js';
import { summarize } from './statistics.js';
import type { BenchCase, BenchContext } from './types.js';
import { makeBatch, makePatchBatch, stepFlops } from './workload.js';

/** A step of a preset to time. */
export interface PresetStep {
  /** `chameleon-443m-mot`. */
  name: string;
  /** Tokens of the one sequence that a step is made of. */
  tokens: number;
}

/** Large models take long. */
const ROUNDS = 3;

/** Ids of a preset that leaves them to a data set, as many as the embedded one has. */
const VOCAB = 2530;

/** One sequence for it: of every modality, or with images as patches where the model takes such. */
export function presetBatch(config: ModelConfig, length: number): Batch {
  const { vocab, modalities, diffusion } = config;
  if (diffusion) return makePatchBatch({ length, vocab }, diffusion.patch_dim, diffusion.steps);
  return makeBatch({ sequences: 1, length, vocab }, modalities.length);
}

/** The model of a preset. MotError ERR_USAGE where there is none. */
export function presetModelConfig(name: string): ModelConfig {
  const preset = findPreset(name);
  if (!preset) throw new MotError('ERR_USAGE', `there is no preset ${name}; ${presetHint(name)}.`);
  return parseModelConfig({ vocab: VOCAB, modalities: ['text', 'image', 'speech'], ...preset.model });
}

/**
 * Suite `step` with a preset: whole training steps of one sequence, in a process of its own, so that its peak memory is
 * that of the model.
 *
 * @throws MotError ERR_USAGE for an unknown preset, ERR_MEMORY where the plan is larger than the memory that is free.
 */
export async function timePreset(context: BenchContext, { name, tokens }: PresetStep): Promise<BenchCase[]> {
  const config = presetModelConfig(name);
  const { threads } = context;
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes) {
    const { arenaBytes, parameters } = Model.describe(config, { tokens, dtype, threads });
    const { available } = machineMemory();
    if (arenaBytes > available)
      throw new MotError(
        'ERR_MEMORY',
        `a step of ${name} takes ${gigabytes(arenaBytes)}, and ${gigabytes(available)} are free; mot describe ${name} shows what fits.`,
      );
    await context.progress(`step ${name} ${dtype}`);
    const rounds = String(context.repeats(ROUNDS));
    const times = inChild<PresetTimes>('preset', dtype, String(threads), name, String(tokens), rounds);
    const { d_model, n_layers, n_heads, head_dim, ffn_dim, vocab, modalities } = config;
    const shape = { d_model, n_layers, heads: n_heads, head_dim, ffn_dim, vocab, modalities: modalities.length };
    const flops = stepFlops(config, presetBatch(config, tokens));
    const gradients = summarize(times.gradients);
    const optimizer = summarize(times.optimizer);
    cases.push(
      {
        name: `forward+backward, ${name}`,
        dtype,
        threads,
        ...gradients,
        gflops: flops / gradients.median_ms / 1e6,
        tokens_per_s: (1000 * tokens) / gradients.median_ms,
        limit: `${dtype}_gflops`,
        peak_rss_mb: times.peakRssBytes / 1e6,
        plan_mb: times.planBytes / 1e6,
        shape: { ...shape, sequences: 1, length: tokens, parameters },
      },
      {
        // As in the step suite.
        name: `optimizer, ${name}`,
        dtype,
        threads,
        ...optimizer,
        gbps: (32 * parameters) / optimizer.median_ms / 1e6,
        limit: 'copy_gbps',
        shape: { ...shape, parameters },
      },
    );
  }
  return cases;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
