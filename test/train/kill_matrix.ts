import { expect } from '@jest/globals';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomKey, randomUniform } from '../../lib/modalities/random.js';
import { isStep } from '../../lib/train/metrics.js';
import { eventFiles, readScalars } from './event_reader.js';
import { exitOf, type TinyJob } from './tiny_job.js';

/** What a kill matrix has done. */
export interface KillCounts {
  /** Kills by `kill -9`, each after the run's first checkpoint and a step beyond the last resume. */
  kills: number;
  /** Those of them that came while a checkpoint was written. */
  whileSaving: number;
  /** Runs brought to their end. */
  runs: number;
}

/** Kills of one run before it may finish. */
const KILLS_A_RUN = 5;

/**
 * Kills `mot train` at random moments and resumes it, until so many kills are done and the last run is finished. Every
 * finished run must be the uninterrupted one (`whole`): lines, curves of TensorBoard, weights and moments, and no file
 * more than it should have.
 *
 * @param job With its run `whole` done.
 */
export async function killMatrix(job: TinyJob, kills: number, seed: number): Promise<KillCounts> {
  const counts: KillCounts = { kills: 0, whileSaving: 0, runs: 0 };
  const key = randomKey(seed, 'kill');
  for (let draw = 0; counts.kills < kills;) {
    const name = `killed-${seed}-${counts.runs}`;
    let resumes = 0;
    for (; resumes < Math.min(KILLS_A_RUN, kills - counts.kills); resumes++) {
      const atSaving = randomUniform(key, draw++) < 0.5;
      const place = randomUniform(key, draw++);
      const whileSaving = await killOnce(job, name, resumes, atSaving, place);
      if (whileSaving === undefined) break;
      if (whileSaving) counts.whileSaving++;
    }
    const { code, stderr } = await exitOf(job.start(name, '--resume'));
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/resumed_from step [1-9]/) });
    counts.kills += resumes;
    counts.runs++;
    expectWhole(job, name, resumes);
  }
  return counts;
}

/**
 * Starts or resumes a run and kills it: within the next steps, or while it saves.
 *
 * @param place Where in the chosen span of time, from 0 to 1.
 * @returns Whether a checkpoint was being written; undefined: the run was over first.
 */
async function killOnce(
  job: TinyJob,
  name: string,
  resumes: number,
  atSaving: boolean,
  place: number,
): Promise<boolean | undefined> {
  const before = resumes === 0 ? 0 : newest(job, name);
  const child = job.start(name, '--resume');
  const exit = exitOf(child);
  let over = false;
  void exit.then(() => (over = true));
  // The first checkpoint of this process: the run has one, and has gone beyond where it was resumed.
  while (!over && newest(job, name) <= before) await sleep(1);
  if (atSaving) {
    // A turn of the event loop only now and then: a checkpoint of this size takes a few milliseconds.
    for (let turn = 1; !over && unfinished(job, name).length === 0; turn++) if (turn % 50 === 0) await sleep(0);
    const until = performance.now() + 6 * place;
    while (performance.now() < until);
  } else await sleep(60 * place);
  child.kill('SIGKILL');
  const { code, signal, stderr } = await exit;
  if (code === 0) return undefined;
  expect({ code, signal, stderr }).toMatchObject({ signal: 'SIGKILL' });
  if (resumes > 0) expect(stderr).toMatch(/resumed_from step [1-9]/);
  return unfinished(job, name).length > 0;
}

/** Kills a run while a later checkpoint than its first is written from a copy and a step was made meanwhile. */
export async function killWhileGoingOn(job: TinyJob, name: string): Promise<void> {
  const child = job.start(name, 'train.checkpoint_copy=always');
  const exit = exitOf(child);
  let over = false;
  void exit.then(() => (over = true));
  const goesOn = (): boolean => {
    const step = Number(/\d+/.exec(unfinished(job, name).find((file) => file.startsWith('.step')) ?? '')?.[0] ?? NaN);
    return newest(job, name) > 0 && step > newest(job, name) && lastStep(job, name) > step;
  };
  while (!over && !goesOn()) await sleep(1);
  child.kill('SIGKILL');
  expect(await exit).toMatchObject({ signal: 'SIGKILL' });
  expect(unfinished(job, name)).toHaveLength(1);
  const { code, stderr } = await exitOf(job.start(name, '--resume'));
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/resumed_from step [1-9]/) });
  expectWhole(job, name, 1);
}

function lastStep(job: TinyJob, name: string): number {
  return Math.max(0, ...job.lines(name).map(({ step }) => step));
}

/** Step of the newest checkpoint, 0 where there is none. */
function newest(job: TinyJob, name: string): number {
  return Math.max(0, ...list(job, name).map((file) => Number(/^step-(\d+)$/.exec(file)?.[1] ?? 0)));
}

/** Checkpoints that are being written, or were when their process was killed. */
function unfinished(job: TinyJob, name: string): string[] {
  return list(job, name).filter((file) => file.startsWith('.'));
}

function list(job: TinyJob, name: string): string[] {
  try {
    return readdirSync(job.checkpoints(name));
  } catch {
    return [];
  }
}

function expectWhole(job: TinyJob, name: string, resumes: number): void {
  expect(job.results(name)).toEqual(job.results('whole'));
  job.finalFiles('whole').forEach((file, i) => expect(file.equals(job.finalFiles(name)[i]!)).toBe(true));
  const resumed = job.lines(name).filter((line) => !isStep(line) && line.event === 'resumed_from');
  expect(resumed).toHaveLength(resumes);
  for (const { step } of resumed) expect(step).toBeGreaterThan(0);
  const scalars = (run: string): unknown[] =>
    readScalars(job.out(run))
      .filter(({ tag }) => !/tokens_per_second|memory/.test(tag))
      .map(({ tag, step, value }) => [tag, step, value]);
  expect(scalars(name)).toEqual(scalars('whole'));
  const events = eventFiles(job.out(name));
  expect(events).toHaveLength(resumes + 1);
  expect(readdirSync(job.out(name)).sort()).toEqual(['checkpoints', 'config.yaml', ...events, 'metrics.jsonl']);
  expect(list(job, name)).toEqual(list(job, 'whole'));
  for (const folder of list(job, name))
    expect(readdirSync(`${job.checkpoints(name)}/${folder}`).sort()).toEqual(
      readdirSync(`${job.checkpoints('whole')}/${folder}`).sort(),
    );
}
