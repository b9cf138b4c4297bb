import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';

const script = fileURLToPath(new URL('./scenarios.js', import.meta.url));

interface Outcome {
  status: number | string | null;
  out: string;
  err: string;
}

function play(scenario: string, nodeOptions: string[] = [], folder = ''): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [...nodeOptions, script, scenario, folder], { timeout: 55_000 }, (error, out, err) => {
      resolve({ status: error ? (error.signal ?? error.code ?? null) : 0, out, err });
    });
  });
}

test('a process whose model nobody disposed of ends by itself', async () => {
  expect(await play('forgets')).toEqual({ status: 0, out: 'last line\n', err: '' });
});

test('a pending call keeps the process alive, and only that long', async () => {
  expect(await play('pends')).toEqual({ status: 0, out: 'settled\n', err: '' });
});

test('process.exit in the middle of a step ends the process with its status', async () => {
  expect(await play('exitsInAStep')).toEqual({ status: 7, out: '', err: '' });
});

test('process.exit while a snapshot is written ends the process with its status', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mot-exit-'));
  try {
    expect(await play('exitsInAWrite', [], folder)).toEqual({ status: 7, out: '', err: '' });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('worker threads terminated in the middle of steps, cases and creations take nothing with them', async () => {
  const { status, out, err } = await play('terminatesWorkersInAStep');
  expect({ status, err }).toEqual({ status: 0, err: '' });
  expect(out).toMatch(/survived\n$/);
});

test('worker threads train at once, each the same', async () => {
  expect(await play('workersTrainAtOnce')).toEqual({ status: 0, out: '1\n', err: '' });
});

test('models that are collected give their memory back', async () => {
  expect(await play('collects', ['--expose-gc'])).toEqual({ status: 0, out: 'bounded\n', err: '' });
});
