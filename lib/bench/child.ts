/**
 * What has to be measured in a process of its own: `node child.js startup`, `node child.js step DTYPE THREADS
 * MODALITIES SIZE` (SIZE: JSON of a ModelSize), `node child.js preset DTYPE THREADS NAME TOKENS ROUNDS`. Prints one line
 * of JSON.
 */
import { performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import type { Dtype } from './types.js';
import type { ModelSize } from './workload.js';

/** Of `child.js startup`, milliseconds. */
export interface StartupTimes {
  /** Loading the addon. */
  addonMs: number;
  /** From the first line of work: making a small model. */
  createMs: number;
  /** From there on: its first step. */
  firstStepMs: number;
  /** From the start of the process to the end of the step. */
  processMs: number;
}

/** Of `child.js step`. */
export interface StepMemory {
  peakRssBytes: number;
  planBytes: number;
}

/** Of `child.js preset`; milliseconds of every round. */
export interface PresetTimes extends StepMemory {
  gradients: number[];
  optimizer: number[];
}

/** The small model of the startup suite. */
export const SMALL: ModelSize = { d_model: 128, n_layers: 2, ffn_dim: 384, vocab: 1024, sequences: 4, length: 128 };

async function startup(): Promise<StartupTimes> {
  const { loadAddon } = await import('../native/load.js');
  const begin = performance.now();
  loadAddon();
  const loaded = performance.now();
  const { Model } = await import('../model/model.js');
  const { makeBatch, modelConfig } = await import('./workload.js');
  const work = performance.now();
  await using model = await Model.create(modelConfig(SMALL, 2), { tokens: SMALL.sequences * SMALL.length });
  const created = performance.now();
  await model.step([makeBatch(SMALL, 2)], { lr: 1e-3, step: 1 });
  const end = performance.now();
  return { addonMs: loaded - begin, createMs: created - work, firstStepMs: end - created, processMs: end };
}

async function step(
  dtype: Dtype,
  threads: number,
  modalities: number,
  experts: number,
  size: ModelSize,
): Promise<StepMemory> {
  const { Model } = await import('../model/model.js');
  const { makeBatch, modelConfig } = await import('./workload.js');
  const tokens = size.sequences * size.length;
  await using model = await Model.create(modelConfig(size, modalities, experts), { dtype, threads, tokens });
  await model.step([makeBatch(size, modalities)], { lr: 1e-4, step: 1 }); // touches all that any step does
  return { peakRssBytes: process.resourceUsage().maxRSS * 1024, planBytes: model.memory().arenaBytes };
}

async function preset(
  dtype: Dtype,
  threads: number,
  name: string,
  length: number,
  rounds: number,
): Promise<PresetTimes> {
  const { Model } = await import('../model/model.js');
  const { presetBatch, presetModelConfig } = await import('./preset.js');
  const config = presetModelConfig(name);
  const batch = presetBatch(config, length);
  await using model = await Model.create(config, { dtype, threads, tokens: length });
  const times: Pick<PresetTimes, 'gradients' | 'optimizer'> = { gradients: [], optimizer: [] };
  for (let round = 0; round <= rounds; round++) {
    const begin = performance.now();
    await model.zeroGradients();
    await model.backward(batch);
    const middle = performance.now();
    await model.adamw({ lr: 1e-4, step: round + 1 });
    if (round === 0) continue; // touches the memory
    times.gradients.push(middle - begin);
    times.optimizer.push(performance.now() - middle);
  }
  return { ...times, peakRssBytes: process.resourceUsage().maxRSS * 1024, planBytes: model.memory().arenaBytes };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [task, dtype, threads, what, ...more] = process.argv.slice(2);
  const tasks: Record<string, () => Promise<unknown>> = {
    startup,
    step: () => step(dtype as Dtype, Number(threads), Number(what), Number(more[0]), JSON.parse(more[1]!) as ModelSize),
    preset: () => preset(dtype as Dtype, Number(threads), what!, Number(more[0]), Number(more[1])),
  };
  process.stdout.write(`${JSON.stringify(await tasks[task!]!())}\n`);
}
