import { MotError } from '../errors.js';
import { serveTasks } from '../threads/worker_tasks.js';
import { encodePaths } from './image/patch_codebook.js';
import { assignCodes, nearerCode } from './kmeans.js';
import { covarianceRows, rotateVectors } from './rotation.js';
import { takeBlocks, type Loop } from './training_steps.js';

/** What the threads of runOnThreads() do. */
export interface TrainingTasks {
  pass: { task: { kernel: string; task: unknown; items: number; block: number; cursor: Int32Array }; result: number };
}

const KERNELS = { assignCodes, covarianceRows, encodePaths, nearerCode, rotateVectors } as Record<
  string,
  ((task: never) => Loop) | undefined
>;

serveTasks<TrainingTasks>({
  pass({ kernel, task, items, block, cursor }) {
    const make = KERNELS[kernel];
    if (!make) throw new MotError('ERR_INTERNAL', `training_worker knows no kernel ${kernel}`);
    return takeBlocks(make(task as never), items, block, cursor);
  },
});
