import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import type { LiveData } from '../../lib/watch/client.js';
import { exitOf, TinyJob } from '../train/tiny_job.js';
import { urlOf } from './url_of.js';

let job: TinyJob;
beforeAll(async () => {
  job = await TinyJob.create(1000);
});
afterAll(() => job.remove());

/** The first state that a live page is sent in which training goes on. */
async function firstState(url: string): Promise<LiveData> {
  const response = await fetch(new URL('events', url));
  let text = '';
  for await (const piece of response.body!) {
    text += Buffer.from(piece).toString();
    for (const message of text.split('\n\n').slice(0, -1)) {
      const data = message.startsWith('data: ') ? (JSON.parse(message.slice(6)) as LiveData) : undefined;
      if (data && data.state !== 'waiting') return data;
    }
  }
  throw new Error(`the stream ended with ${text}`);
}

test('mot train --watch shows the run, and an open page does not hold up its end', async () => {
  const child = job.start('live', '--watch', '0', 'train.checkpoint_every=0');
  const exit = exitOf(child);
  const url = await urlOf(child);
  const open = await fetch(new URL('events', url));
  expect(await firstState(url)).toMatchObject({ title: 'live', state: 'training' });
  child.kill('SIGTERM');
  expect(await open.text()).toMatch(/"state":"stopped"/);
  expect(await exit).toMatchObject({ code: 0 });
});

test('mot watch shows the run of another process until Ctrl-C', async () => {
  await job.train('other', ['train.steps=12']);
  const [program, cli] = job.command('other');
  const child = spawn(program!, [cli!, 'watch', job.out('other'), '--port', '0'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const url = await urlOf(child);
  expect((await firstState(url)).facts).toContainEqual(['step', '12 of 12']);
  const exit = exitOf(child);
  child.kill('SIGINT');
  expect(await exit).toMatchObject({ code: 0, stderr: '' });
});
