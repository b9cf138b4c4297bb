import { existsSync, statfsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { RunConfig } from '../config/run_config.js';
import { machineMemory } from '../machine.js';
import { bytes } from '../units.js';
import { checkpointCount } from './checkpoint.js';
import { checkpointBytes } from './checkpoint_writer.js';

/** What a machine has free, bytes. */
export interface FreeResources {
  memory: number;
  /** On the file system of the run's folder. */
  disk: number;
}

/** What is free now for a run into a folder, there or not. */
export function freeResources(out: string): FreeResources {
  let folder = resolve(out);
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const { bavail, bsize } = statfsSync(folder);
  return { memory: machineMemory().available, disk: bavail * bsize };
}

/**
 * Sentences on what a run needs and the machine has not, empty where all fits. They are no errors: memory may get free,
 * and old checkpoints may be removed, before it is needed.
 *
 * @param size Of the run's model, as `Model.describe` gives it.
 */
export function resourceWarnings(
  { out, train }: RunConfig,
  { arenaBytes, parameters }: { arenaBytes: number; parameters: number },
  free: FreeResources = freeResources(out),
): string[] {
  const warnings: string[] = [];
  if (arenaBytes > free.memory)
    warnings.push(
      `training needs ${bytes(arenaBytes)} of memory, and ${bytes(free.memory)} are free: lower train.micro_sequences, set train.checkpointing=block, or take a smaller model; mot describe shows what fits.`,
    );
  const each = checkpointBytes(parameters, train.ema_decay !== undefined);
  const most = mostCheckpoints(train);
  const needed = each * Math.max(0, most - checkpointCount(out));
  if (needed > free.disk)
    warnings.push(
      `up to ${most} checkpoints of ${bytes(each)} will lie in ${out} at once, and ${bytes(free.disk)} are free there: lower train.keep_checkpoints, raise train.keep_every, or choose another out=DIR.`,
    );
  return warnings;
}

/** The most checkpoints that a whole run has on the disk at once, the one that is being written among them. */
export function mostCheckpoints({
  steps,
  checkpoint_every: every,
  keep_checkpoints: newest,
  keep_every,
  keep_best,
}: RunConfig['train']): number {
  const written = every === 0 ? 1 : Math.ceil(steps / every);
  // Those beyond the newest.
  const kept = every === 0 || keep_every === 0 ? 0 : Math.floor(steps / leastCommonMultiple(every, keep_every));
  return Math.min(written, newest + kept + (keep_best === undefined ? 0 : 1) + 1);
}

function leastCommonMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
