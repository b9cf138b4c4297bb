import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MODEL_FILE, OPTIMIZER_FILE, readCheckpoint } from '../../lib/train/checkpoint.js';
import { isStep } from '../../lib/train/metrics.js';
import { silent, type Progress } from '../../lib/train/progress.js';
import { TinyJob } from './tiny_job.js';

const STEPS = 60;
let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(STEPS);
  await job.train('whole');
}, 60_000);
afterAll(() => job.remove());

/** Progress that does something after a step. */
function atStep(wanted: number, act: () => void): Progress {
  return { ...silent, step: ({ step }) => void (step === wanted && act()) };
}

/** Runs `mot train` where no file may become larger than so many bytes: writes then fail as on a full disk. */
function trainLimited(name: string, bytes: number, ...more: string[]): { status: number | null; stderr: string } {
  const [program, ...words] = job.command(name, ...more);
  const script = `ulimit -f ${Math.floor(bytes / 512)} && exec "$0" "$@"`;
  const { status, stderr } = spawnSync('sh', ['-c', script, program!, ...words], { encoding: 'utf8' });
  return { status, stderr };
}

function expectSameAsUninterrupted(name: string): void {
  expect(job.results(name)).toEqual(job.results('whole'));
  job.finalFiles('whole').forEach((file, i) => expect(file.equals(job.finalFiles(name)[i]!)).toBe(true));
}

test.each([MODEL_FILE, OPTIMIZER_FILE])(
  'a write of %s that fails ends the run with a sentence; the last checkpoint stays and is resumed',
  async (file) => {
    const name = `full-${file}`;
    const stop = new AbortController();
    await job.train(name, [], { stop: stop.signal, progress: atStep(12, () => stop.abort()) });
    const { status, stderr } = trainLimited(
      name,
      statSync(join(job.checkpoint(name, 12), file)).size - 1024,
      '--resume',
    );
    expect({ status, stderr }).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^mot: .*checkpoints.*(ulimit -f|too large).*\[ERR_FILE_WRITE\]$/im),
    });
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(readdirSync(job.checkpoints(name))).toEqual(['step-000006', 'step-000012']);
    expect(readCheckpoint(job.checkpoint(name, 12)).state.step).toBe(12);
    await job.train(name, [], { resume: true });
    expectSameAsUninterrupted(name);
  },
);

test('so does one of the metrics, in the middle of a line', async () => {
  // A model so small that its files are smaller than its metrics.
  const small = ['model.d_model=8', 'model.n_layers=1', 'model.n_heads=1', 'model.ffn_dim=8', 'train.steps=200'];
  await job.train('small', small);
  const limit = 0.8 * statSync(join(job.out('small'), 'metrics.jsonl')).size;
  expect(statSync(join(job.checkpoint('small', 200), OPTIMIZER_FILE)).size).toBeLessThan(limit);
  const name = 'full-metrics';
  const { status, stderr } = trainLimited(name, limit, ...small, 'train.tensorboard=false');
  expect({ status, stderr }).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^mot: cannot write .*metrics\.jsonl: .*ulimit -f.*\[ERR_FILE_WRITE\]$/m),
  });
  const last = job.lines(name).filter(isStep).at(-1)!.step;
  const saved = 6 * Math.floor(last / 6);
  expect(saved).toBeGreaterThan(60);
  expect(readCheckpoint(job.checkpoint(name, saved)).state.step).toBe(saved);
  await job.train(name, small, { resume: true });
  expect(job.results(name)).toEqual(job.results('small'));
});

test('a run folder that vanishes while training ends the run, and is not made anew', async () => {
  const name = 'vanished';
  const progress = atStep(20, () => rmSync(job.out(name), { recursive: true }));
  // No checkpoint is being written that could come in the way of removing.
  await expect(job.train(name, ['train.checkpoint_every=0'], { progress })).rejects.toMatchObject({
    code: 'ERR_FILE_WRITE',
    message: expect.stringMatching(/metrics\.jsonl was removed, moved or replaced/),
  });
  expect(existsSync(job.out(name))).toBe(false);
});

test('so does one that vanishes while a checkpoint is written from a copy', async () => {
  const name = 'vanished-behind';
  let going = 0;
  const progress = {
    ...silent,
    step({ step }: { step: number }) {
      // The writing of step 6 has begun.
      if (going === 0 && readdirSync(job.out(name)).includes('checkpoints')) {
        going = step;
        renameSync(job.out(name), job.out('gone'));
      }
    },
  };
  const training = job.train(name, ['train.checkpoint_copy=always', 'train.steps=100000'], { progress });
  await expect(training).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
  expect(going).toBeGreaterThan(6);
  expect(existsSync(job.out(name))).toBe(false);
});

test('one that is moved can be moved back and resumed', async () => {
  const name = 'moved';
  const away = job.out('away');
  const progress = atStep(20, () => renameSync(job.out(name), away));
  await expect(job.train(name, [], { progress })).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
  renameSync(away, job.out(name));
  await job.train(name, [], { resume: true });
  expectSameAsUninterrupted(name);
});

test('a folder of checkpoints that vanishes is a sentence, too', async () => {
  const name = 'no-checkpoints';
  const progress = atStep(20, () => {
    rmSync(job.checkpoints(name), { recursive: true });
    writeFileSync(job.checkpoints(name), 'a file in the way');
  });
  await expect(job.train(name, ['train.checkpoint_copy=never'], { progress })).rejects.toMatchObject({
    code: 'ERR_FILE_WRITE',
    message: expect.stringMatching(/cannot write the checkpoint .*step-000024/),
  });
});
