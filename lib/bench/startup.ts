import { SMALL, type StartupTimes } from './child.js';
import { inChild } from './in_child.js';
import { summarize } from './statistics.js';
import type { BenchCase, BenchContext } from './types.js';
import { shapeOf } from './workload.js';

/** Suite `startup`: every round a fresh process. */
export async function startupSuite({ threads, repeats, progress }: BenchContext): Promise<BenchCase[]> {
  await progress('startup');
  const rounds: StartupTimes[] = [];
  inChild('startup'); // the files are then in the system's memory
  for (let i = 0; i < repeats(9); i++) rounds.push(inChild<StartupTimes>('startup'));
  const of = (name: string, value: (round: StartupTimes) => number): BenchCase => ({
    name,
    dtype: 'f32',
    threads,
    ...summarize(rounds.map(value)),
  });
  const shape = shapeOf(SMALL, 2);
  return [
    of('loading the addon', ({ addonMs }) => addonMs),
    { ...of('making a small model', ({ createMs }) => createMs), shape },
    { ...of('making it and its first step', ({ createMs, firstStepMs }) => createMs + firstStepMs), shape },
    { ...of('the whole process up to there', ({ processMs }) => processMs), shape },
  ];
}
