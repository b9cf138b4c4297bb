import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { isStep } from '../../lib/train/metrics.js';
import { TinyJob } from './tiny_job.js';

/** Prints what TensorBoard itself finds in a folder: tag, and (step, value) of each scalar. */
const READ = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0})
events.Reload()
print(json.dumps({tag: [(s.step, s.value) for s in events.Scalars(tag)] for tag in events.Tags()['scalars']}))
`;

const python = process.env['MOT_PYTHON'] ?? 'python3';
const found = spawnSync(python, ['-c', 'import tensorboard'], { stdio: 'ignore' }).status === 0;
if (!found)
  console.warn(
    `TensorBoard is not asked: ${python} has none (pip install tensorboard; MOT_PYTHON names another Python).`,
  );

let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(30);
});
afterAll(() => job.remove());

(found ? test : test.skip)('TensorBoard reads every step and validation of a run', async () => {
  await job.train('run');
  const { status, stdout, stderr } = spawnSync(python, ['-c', READ, job.out('run')], { encoding: 'utf8' });
  expect([status, status === 0 ? '' : stderr]).toEqual([0, '']);
  const scalars = JSON.parse(stdout) as Record<string, [step: number, value: number][]>;
  const steps = job.lines('run').filter(isStep);
  expect(steps).toHaveLength(30);
  expect(scalars['train/loss']).toEqual(steps.map(({ step, loss }) => [step, Math.fround(loss!)]));
  expect(scalars['validation/loss']!.map(([step]) => step)).toEqual([24, 30]);
});
