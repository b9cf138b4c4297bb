import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SafetensorsFile } from '../../lib/io/safetensors.js';
import { MODEL_FILE, readCheckpoint } from '../../lib/train/checkpoint.js';
import { isStep, type StepMetrics } from '../../lib/train/metrics.js';
import { consoleProgress, silent, type Progress } from '../../lib/train/progress.js';
import { eventFiles, readScalars } from './event_reader.js';
import { TinyJob } from './tiny_job.js';

const STEPS = 30;
let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(STEPS);
  await job.train('whole', ['train.threads=2']);
}, 60_000);
afterAll(() => job.remove());

/** Trains up to a step, as if stopped by a signal. */
async function trainTo(name: string, step: number, overrides: string[] = []): Promise<void> {
  const stop = new AbortController();
  const progress = { ...silent, step: (line: StepMetrics) => void (line.step === step && stop.abort()) };
  await job.train(name, overrides, { stop: stop.signal, progress });
}

/** Goes on to the end; gives what the run said. */
async function resume(name: string, overrides: string[] = []): Promise<string> {
  const said: string[] = [];
  const progress = { ...silent, say: (sentence: string) => void said.push(sentence) };
  const { finished } = await job.train(name, overrides, { resume: true, progress });
  expect(finished).toBe(true);
  return said.join('\n');
}

function expectSameAsUninterrupted(name: string): void {
  expect(job.results(name)).toEqual(job.results('whole'));
  job.finalFiles('whole').forEach((file, i) => expect(file.equals(job.finalFiles(name)[i]!)).toBe(true));
}

test('at another thread count it is the same bits', async () => {
  await trainTo('threads', 13, ['train.threads=2']);
  await resume('threads', ['train.threads=1']);
  expectSameAsUninterrupted('threads');
});

test('with another number of steps the rate follows a schedule of that length, and the run says so', async () => {
  await trainTo('longer', 13);
  expect(await resume('longer', ['train.steps=60'])).toMatch(/train\.steps was 30 and is now 60: .*wsd schedule/);
  const rates = job.lines('longer').filter(isStep);
  const whole = job.lines('whole').filter(isStep);
  expect(rates.slice(0, 13).map(({ lr }) => lr)).toEqual(whole.slice(0, 13).map(({ lr }) => lr));
  expect(rates[29]!.lr).toBeGreaterThan(whole[29]!.lr);
  expect(rates[59]!.lr).toBeCloseTo(whole[29]!.lr, 12);
  const constant = ['train.schedule=constant'];
  await trainTo('constant', 13, constant);
  expect(await resume('constant', [...constant, 'train.steps=40'])).not.toMatch(/schedule/);
});

describe('at another micro-batch split of the same global batch, or on another device', () => {
  test.each([
    ['train.micro_sequences=1', 'micro_sequences was 2 and is now 1: the same global batches'],
    ['train.micro_sequences=4', 'micro_sequences was 2 and is now 4: the same global batches'],
    ['train.device=reference', 'device was "cpu" and is now "reference": the same steps on another device'],
  ])('%s: it is the same within rounding, and says so', async (change, sentence) => {
    const name = change.replace(/.*=/, 'other-');
    await trainTo(name, 13);
    const said = await resume(name, [change]);
    expect(said).toMatch(new RegExp(`${sentence}.*not bit for bit`));
    const steps = (run: string): StepMetrics[] => job.lines(run).filter(isStep);
    for (const [i, line] of steps(name).entries()) {
      const whole = steps('whole')[i]!;
      expect(line.tokens).toBe(whole.tokens);
      expect(line.loss!).toBeCloseTo(whole.loss!, 4);
    }
    expect(readCheckpoint(job.checkpoint(name)).state.cursor).toBe(
      readCheckpoint(job.checkpoint('whole')).state.cursor,
    );
    using a = await SafetensorsFile.open(join(job.checkpoint(name), MODEL_FILE));
    using b = await SafetensorsFile.open(join(job.checkpoint('whole'), MODEL_FILE));
    const worst = Math.max(
      ...b.tensors.map((tensor) => {
        const [x, y] = [a.read(tensor.name), b.read(tensor.name)] as [Float32Array, Float32Array];
        return Math.max(...y.map((value, i) => Math.abs(value - x[i]!)));
      }),
    );
    // Weights are of the size of 0.02 and 1; another split moves them, but hardly.
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThan(1e-3);
  });

  test('with experts, which choose among the tokens of a micro-batch, it is refused', async () => {
    const experts = ['model.experts={text: 2}', 'train.steps=12'];
    await trainTo('experts', 7, experts);
    await expect(job.train('experts', [...experts, 'train.micro_sequences=4'], { resume: true })).rejects.toMatchObject(
      {
        code: 'ERR_CONFIG',
        message: expect.stringMatching(/micro_sequences was 2 and is now 4.*experts choose among the tokens/),
      },
    );
  });
});

describe('a clock that is set while the run goes on', () => {
  const now = Date.now;
  const set = (hours: number): void => void (Date.now = () => now() + hours * 3_600_000);
  afterAll(() => void (Date.now = now));

  test('changes no elapsed time, no time left, no order of curves', async () => {
    const name = 'clock';
    const written: string[] = [];
    const stream = { write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
    const began = performance.now();
    for (const [first, clocks] of [
      [true, { 3: -30, 8: 24 }],
      [false, { 18: -48, 24: 48 }],
    ] as const) {
      const stop = new AbortController();
      const lines = consoleProgress(stream);
      const progress: Progress = {
        start: (step, steps) => lines.start(step, steps),
        validation: (line) => lines.validation(line),
        say: (sentence) => lines.say(sentence),
        stop: () => lines.stop(),
        step(line) {
          lines.step(line);
          const hours = (clocks as Record<number, number>)[line.step];
          if (hours !== undefined) set(hours);
          if (first && line.step === 15) stop.abort();
        },
      };
      await job.train(name, [], { progress, stop: stop.signal, resume: !first });
      // The machine comes up with its clock far back.
      set(-1000);
    }
    const seconds = (performance.now() - began) / 1000;
    Date.now = now;
    const elapsed = job
      .lines(name)
      .filter(isStep)
      .map((line) => line.elapsed);
    expect(elapsed).toHaveLength(STEPS);
    expect(elapsed).toEqual([...elapsed].sort((a, b) => a - b));
    expect(elapsed.at(-1)).toBeLessThan(seconds);
    expect(written.join('')).not.toMatch(/\d+h\d+m left/);
    expectSameAsUninterrupted(name);
    // TensorBoard reads in the order of names.
    expect(eventFiles(job.out(name))).toHaveLength(2);
    const curve = readScalars(job.out(name)).filter(({ tag }) => tag === 'train/loss');
    expect(curve.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
  });
});

describe('after a power cut', () => {
  const zeroed = (path: string): void => writeFileSync(path, Buffer.alloc(readFileSync(path).length));
  test.each<[string, (path: string) => void]>([
    ['are empty', (path) => truncateSync(path)],
    ['hold zeros', zeroed],
  ])('that left a newest checkpoint whose files %s, the one before is taken, and is said', async (what, damage) => {
    const name = `cut-${what.replaceAll(' ', '-')}`;
    await trainTo(name, 18);
    for (const file of readdirSync(job.checkpoint(name, 18))) damage(join(job.checkpoint(name, 18), file));
    // And lines that never came to the disk.
    const metrics = join(job.out(name), 'metrics.jsonl');
    const text = readFileSync(metrics, 'utf8');
    const end = text.indexOf('"step":13');
    expect(end).toBeGreaterThan(0);
    writeFileSync(metrics, Buffer.concat([Buffer.from(text.slice(0, end)), Buffer.alloc(500)]));
    const said = await resume(name);
    expect(said).toMatch(/passing over a checkpoint: .*step-000018/);
    expect(said).toMatch(/resumed_from step 12/);
    expectSameAsUninterrupted(name);
  });
});

describe('a disk that is full', () => {
  const size = (kb: number): string => `size=${kb}k`;
  const mount = (...words: string[]): boolean => spawnSync('mount', words).status === 0;
  // A file system of its own: only root may make one.
  const folder = mkdtempSync(join(tmpdir(), 'mot-full-'));
  const mounted = mount('-t', 'tmpfs', '-o', size(1000), 'tmpfs', folder);
  afterAll(() => {
    if (mounted) spawnSync('umount', [folder]);
    rmSync(folder, { recursive: true, force: true });
  });

  const title = 'ends the run with a sentence; with more room it goes on to the same end';
  (mounted ? test : test.skip)(mounted ? title : `${title} (skipped: mounting a tmpfs needs root)`, async () => {
    const out = join(folder, 'run');
    mkdirSync(out);
    // Kept for good: the disk fills up.
    const overrides = [`out=${out}`, 'train.keep_every=1'];
    await expect(job.train('full', overrides)).rejects.toMatchObject({
      code: 'ERR_FILE_WRITE',
      message: expect.stringMatching(/disk is full|No space left/),
    });
    const left = readdirSync(join(out, 'checkpoints'));
    expect(left.length).toBeGreaterThan(0);
    for (const name of left) readCheckpoint(join(out, 'checkpoints', name));
    expect(mount('-o', `remount,${size(9000)}`, folder)).toBe(true);
    const { finished, checkpoint } = await job.train('full', overrides, { resume: true });
    expect(finished).toBe(true);
    const [whole] = job.finalFiles('whole');
    expect(readFileSync(join(checkpoint, MODEL_FILE)).equals(whole!)).toBe(true);
  });
});
