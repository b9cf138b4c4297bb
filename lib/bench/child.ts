/**
 * What has to be measured in a process of its own: `node child.js startup`, `node child.js step DTYPE THREADS
 * MODALITIES SIZE` (SIZE: JSON of a ModelSize). Prints one line of JSON.
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

async function step(dtype: Dtype, threads: number, modalities: number, size: ModelSize): Promise<StepMemory> {
  const { Model } = await import('../model/model.js');
  const { makeBatch, modelConfig } = await import('./workload.js');
  const tokens = size.sequences * size.length;
  await using model = await Model.create(modelConfig(size, modalities), { dtype, threads, tokens });
  await model.step([makeBatch(size, modalities)], { lr: 1e-4, step: 1 }); // touches all that any step does
  return { peakRssBytes: process.resourceUsage().maxRSS * 1024, planBytes: model.memory().arenaBytes };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [task, dtype, threads, modalities, size] = process.argv.slice(2);
  const result =
    task === 'startup'
      ? await startup()
      : await step(dtype as Dtype, Number(threads), Number(modalities), JSON.parse(size!) as ModelSize);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
