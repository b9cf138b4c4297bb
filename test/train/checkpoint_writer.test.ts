import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CheckpointCopy } from '../../lib/config/train_config.js';
import { MotError } from '../../lib/errors.js';
import type { Snapshot } from '../../lib/model/model.js';
import { readCheckpoint, type TrainerState } from '../../lib/train/checkpoint.js';
import { CheckpointWriter, type CheckpointWriterOptions } from '../../lib/train/checkpoint_writer.js';

let run: string;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'mot-writer-'));
});
afterEach(() => rmSync(run, { recursive: true, force: true }));

const folders = (): string[] =>
  existsSync(join(run, 'checkpoints'))
    ? readdirSync(join(run, 'checkpoints')).filter((name) => !name.startsWith('.'))
    : [];

/** A model of 1000 parameters whose writes wait until they may go on. */
class SlowModel {
  readonly parameters = 1000;
  weights = 'first';
  copies = 0;
  disposed = 0;
  /** What a snapshot fails with. */
  refusal: Error | undefined;
  /** What a write fails with. */
  failure: Error | undefined;
  #gates: (() => void)[] = [];
  open = false;

  async save(path: string): Promise<string> {
    return this.#write(path, () => this.weights);
  }

  async snapshot(): Promise<Snapshot> {
    if (this.refusal) throw this.refusal;
    const { weights } = this;
    this.copies++;
    const copy = { save: (path: string) => this.#write(path, () => weights), dispose: () => void this.disposed++ };
    return copy as unknown as Snapshot;
  }

  /** Lets all writes end, those to come too. */
  release(): void {
    this.open = true;
    for (const gate of this.#gates.splice(0)) gate();
  }

  async #write(path: string, text: () => string): Promise<string> {
    if (!this.open) await new Promise<void>((resolve) => this.#gates.push(resolve));
    if (this.failure) throw this.failure;
    writeFileSync(path, text());
    return '';
  }
}

function setUp(copy: CheckpointCopy, free = 1e9): { model: SlowModel; writer: CheckpointWriter; said: string[] } {
  const model = new SlowModel();
  const said: string[] = [];
  const options: CheckpointWriterOptions = {
    model,
    run,
    keep: { newest: 9 },
    copy,
    before() {},
    say: (sentence) => void said.push(sentence),
    memory: () => ({ limit: 2e9, available: free }),
  };
  return { model, writer: new CheckpointWriter(options), said };
}

const stateAt = (step: number): TrainerState => ({
  step,
  skipped: 0,
  recent: { loss: [], grad_norm: [], skipped: 0 },
  cursor: 7 * step,
  seed: 1,
  config: {},
  elapsed: 1.5,
  dataset: { folder: 'd', fingerprint: 'f' },
});

/** Whether a promise has been settled after a while. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), sleep(30, false)]);
}

describe('with a copy', () => {
  test('training goes on while it is written; weights and state are those of its moment', async () => {
    const { model, writer } = setUp('auto');
    const state = stateAt(1);
    const done: string[] = [];
    await writer.save(state, { done: (path) => void done.push(path) });
    state.step = 2;
    model.weights = 'second';
    expect(folders()).toEqual([]);
    writer.check();
    model.release();
    await writer.settle();
    expect(folders()).toEqual(['step-000001']);
    expect(done).toEqual([join(run, 'checkpoints', 'step-000001')]);
    const { path, state: saved } = readCheckpoint(done[0]!);
    expect(saved).toEqual(stateAt(1));
    rmSync(path, { recursive: true });
    expect([model.copies, model.disposed]).toEqual([1, 1]);
  });

  test('only one is under way: the next waits, and there is never more than one copy', async () => {
    const { model, writer } = setUp('always');
    await writer.save(stateAt(1));
    const next = writer.save(stateAt(2));
    expect(await settled(next)).toBe(false);
    expect(model.copies).toBe(1);
    model.release();
    await next;
    expect([model.copies, model.disposed]).toEqual([2, 1]);
    await writer.settle();
    expect(folders()).toEqual(['step-000001', 'step-000002']);
  });

  test('the last one is written without a copy, and waited for', async () => {
    const { model, writer } = setUp('always');
    const last = writer.save(stateAt(1), { last: true });
    expect(await settled(last)).toBe(false);
    model.release();
    await last;
    expect(model.copies).toBe(0);
    expect(folders()).toEqual(['step-000001']);
  });

  test.each(['check', 'settle', 'save'] as const)('a failure to write is thrown once, by %s', async (call) => {
    const { model, writer } = setUp('auto');
    model.failure = new MotError('ERR_FILE_WRITE', 'the disk is full.');
    await writer.save(stateAt(1));
    model.release();
    await sleep(30);
    const failing = async (): Promise<void> => (call === 'save' ? writer.save(stateAt(2)) : writer[call]());
    await expect(failing()).rejects.toThrow('the disk is full');
    await writer.settle();
    expect(model.disposed).toBe(1);
    expect(readdirSync(join(run, 'checkpoints'))).toEqual([]);
  });
});

describe('without a copy training waits', () => {
  test.each<[string, CheckpointCopy, number, Error | undefined, RegExp]>([
    ['with never', 'never', 1e9, undefined, /^$/],
    ['where memory lacks', 'auto', 20_000, undefined, /12\.0 kB.*20\.0 kB.*training waits while they are written/],
    ['where the system refuses', 'auto', 1e9, new MotError('ERR_MEMORY', 'refused.'), /training waits/],
  ])('%s', async (_, copy, free, refusal, sentence) => {
    const { model, writer, said } = setUp(copy, free);
    model.refusal = refusal;
    const first = writer.save(stateAt(1));
    expect(await settled(first)).toBe(false);
    model.release();
    await first;
    expect(folders()).toEqual(['step-000001']);
    await writer.save(stateAt(2));
    expect(folders()).toEqual(['step-000001', 'step-000002']);
    expect(model.copies).toBe(0);
    // Said once.
    expect(said.join('\n')).toMatch(sentence);
    expect(said.length).toBeLessThanOrEqual(1);
  });

  test('always means always', async () => {
    const { model, writer } = setUp('always', 20_000);
    await writer.save(stateAt(1));
    model.release();
    await writer.settle();
    expect(model.copies).toBe(1);
    model.refusal = new MotError('ERR_MEMORY', 'refused.');
    await expect(writer.save(stateAt(2))).rejects.toThrow('refused.');
  });
});
