import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseRunConfig, type RunConfig } from '../../lib/config/run_config.js';
import type { TrainConfigInput } from '../../lib/config/train_config.js';
import { MODEL_FILE, OPTIMIZER_FILE, writeCheckpoint } from '../../lib/train/checkpoint.js';
import { freeResources, mostCheckpoints, resourceWarnings } from '../../lib/train/resources.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-resources-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function configOf(train: TrainConfigInput, out: string): RunConfig {
  return parseRunConfig(
    {
      value: { model: { d_model: 8, n_layers: 1, n_heads: 1 }, train: { warmup_steps: 0, ...train } },
      where: () => '',
    },
    out,
  );
}

test.each<TrainConfigInput>([
  { steps: 12, checkpoint_every: 0 },
  { steps: 12, checkpoint_every: 3, keep_checkpoints: 1 },
  { steps: 13, checkpoint_every: 3, keep_checkpoints: 2, keep_every: 6 },
  { steps: 13, checkpoint_every: 4, keep_checkpoints: 1, keep_every: 6 },
  { steps: 6, checkpoint_every: 3, keep_checkpoints: 9 },
])('as many checkpoints as a run with %j has at most', async (train) => {
  const out = join(mkdtempSync(join(folder, 'run-')));
  const config = configOf(train, out);
  const { steps, checkpoint_every: every, keep_checkpoints: newest, keep_every } = config.train;
  let most = 0;
  for (let step = 1; step <= steps; step++) {
    if (step < steps && (every === 0 || step % every > 0)) continue;
    const dataset = { folder: '', fingerprint: '' };
    const recent = { loss: [], grad_norm: [], skipped: 0 };
    const state = { step, skipped: 0, cursor: 0, seed: 0, config: {}, recent, elapsed: 0, dataset };
    await writeCheckpoint(out, state, { newest, every: keep_every }, async (path) => {
      for (const file of [MODEL_FILE, OPTIMIZER_FILE]) writeFileSync(join(path, file), '');
      most = Math.max(most, readdirSync(join(out, 'checkpoints')).length);
    });
  }
  // An upper bound: those kept for good may be among the newest.
  const estimate = mostCheckpoints(config.train);
  expect(estimate).toBeGreaterThanOrEqual(most);
  expect(estimate).toBeLessThanOrEqual(most + 1);
});

describe('warnings', () => {
  const size = { arenaBytes: 2e9, parameters: 1e8 };
  const config = (): RunConfig => configOf({ steps: 100, checkpoint_every: 10 }, join(folder, 'none', 'deeper'));

  test('none where all fits', () => {
    expect(resourceWarnings(config(), size, { memory: 2e9, disk: 3.6e9 })).toEqual([]);
  });

  test('of memory and of disk, with figures and what to do', () => {
    const warnings = resourceWarnings(config(), size, { memory: 1.9e9, disk: 3.5e9 });
    expect(warnings).toEqual([
      expect.stringMatching(/^training needs 2\.00 GB of memory, and 1\.90 GB are free: lower train\.micro_sequences/),
      expect.stringMatching(/^up to 3 checkpoints of 1\.20 GB .*deeper.* 3\.50 GB are free there: lower train\.keep/),
    ]);
  });

  test('what a run has on the disk already is not counted twice', () => {
    const out = join(folder, 'resumed');
    mkdirSync(join(out, 'checkpoints', 'step-000010'), { recursive: true });
    const again = { ...config(), out };
    expect(resourceWarnings(again, size, { memory: 2e9, disk: 2.5e9 })).toEqual([]);
    expect(resourceWarnings(again, size, { memory: 2e9, disk: 2.3e9 })).toHaveLength(1);
  });

  test('what is free is asked of the folder above where there is none yet', () => {
    const { disk, memory } = freeResources(join(folder, 'none', 'deeper'));
    expect(disk).toBeGreaterThan(0);
    expect(memory).toBeGreaterThan(0);
  });
});
