import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileError, removeQuietly, syncFolder } from '../io/files.js';
import { Model } from '../model/model.js';
import { MODEL_FILE, OPTIMIZER_FILE, writeCheckpoint, type TrainerState } from '../train/checkpoint.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext } from './types.js';
import { modelConfig, shapeOf, type ModelSize } from './workload.js';

const SIZE: ModelSize = { d_model: 512, n_layers: 4, ffn_dim: 1536, vocab: 4096, sequences: 1, length: 64 };
const BLOCK = 8 * 2 ** 20;

/** Suite `checkpoint`: weights and moments into a folder beside the current one, against plain writes of as many bytes. */
export async function checkpointSuite(context: BenchContext): Promise<BenchCase[]> {
  await context.progress('checkpoint');
  const { threads } = context;
  const folder = makeTemporary();
  try {
    await using model = await Model.create(modelConfig(SIZE, 1), { tokens: SIZE.length, threads });
    const bytes = 12 * model.parameters; // weight, m and v in f32
    const saves: number[] = [];
    const writes: number[] = [];
    const rounds = context.repeats(5);
    for (let round = 0; round <= rounds; round++) {
      const begin = performance.now();
      await saveCheckpoint(model, folder, round);
      const middle = performance.now();
      writeBytes(join(folder, 'plain'), bytes);
      const end = performance.now();
      rmSync(join(folder, 'plain'));
      if (round === 0) continue;
      saves.push(middle - begin);
      writes.push(end - middle);
    }
    const shape = { ...shapeOf(SIZE, 1), bytes };
    const speed = (times: { median_ms: number }): number => bytes / times.median_ms / 1e6;
    const [save, write] = [summarize(saves), summarize(writes)];
    return [
      {
        name: `checkpoint of ${Math.round(bytes / 1e6)} MB`,
        dtype: 'f32',
        threads,
        ...save,
        gbps: speed(save),
        share_of_limit: medianRatio(writes, saves),
        shape,
      },
      { name: 'the same bytes written in sequence', dtype: 'f32', threads: 1, ...write, gbps: speed(write), shape },
    ];
  } finally {
    removeQuietly(folder);
  }
}

function makeTemporary(): string {
  try {
    return mkdtempSync(join(process.cwd(), '.mot-bench-'));
  } catch (cause) {
    throw fileError('ERR_FILE_WRITE', `cannot make a folder for checkpoints in ${process.cwd()}`, cause);
  }
}

/** As `mot train` does it, checksums and synchronisation with the disk included. */
async function saveCheckpoint(model: Model, folder: string, step: number): Promise<void> {
  const dataset = { folder, fingerprint: '' };
  const state: TrainerState = {
    step,
    skipped: 0,
    cursor: 0,
    seed: 0,
    config: {},
    recent: { loss: [], grad_norm: [], skipped: 0 },
    elapsed: 0,
    dataset,
  };
  await writeCheckpoint(folder, state, { newest: 1 }, async (path, written) => {
    await model.save(join(path, MODEL_FILE));
    written(MODEL_FILE);
    await model.save(join(path, OPTIMIZER_FILE), ['m', 'v']);
  });
}

/** The disk's sequential rate: large blocks, then everything on the disk. */
function writeBytes(path: string, bytes: number): void {
  const block = Buffer.alloc(BLOCK, 0x3f);
  const file = openSync(path, 'w');
  try {
    for (let left = bytes; left > 0;) left -= writeSync(file, block, 0, Math.min(BLOCK, left));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  syncFolder(join(path, '..'));
}
