// Lives of processes and worker threads that use the addon; run by lifecycle.test.ts in processes of their own, so that a
// crash shows as an exit status. Argument: the name of a scenario.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model } from '../../lib/model/model.js';
import { loadAddon } from '../../lib/native/load.js';
import { makeBatch, SLOW, TINY } from './tiny_model.js';

const here = fileURLToPath(import.meta.url);

const scenarios: Record<string, () => Promise<void>> = {
  /** Never disposes of its model, and ends by itself. */
  async forgets() {
    const model = await Model.create(TINY, { tokens: 32 });
    await model.step([makeBatch(32)], { lr: 1e-3, step: 1 });
    console.log('last line');
  },

  /** Awaits nothing: the pending call keeps the process alive until it is done. */
  async pends() {
    const model = await Model.create(SLOW, { device: 'reference', tokens: 128 });
    void model.step([makeBatch(128, 300)], { lr: 1e-3, step: 1 }).then(() => console.log('settled'));
  },

  async exitsInAStep() {
    const model = await Model.create(SLOW, { device: 'reference', tokens: 128 });
    void model.step([makeBatch(128, 300)], { lr: 1e-3, step: 1 });
    await sleep(30);
    process.exit(7);
  },

  /** A copy of 70 MB is being written into the folder given. */
  async exitsInAWrite() {
    const model = await Model.create({ ...TINY, vocab: 100_000, d_model: 64 }, { tokens: 8, seed: null });
    const snapshot = await model.snapshot(['weight', 'm', 'v']);
    void snapshot.save(join(process.argv[3]!, 'model.safetensors'), ['weight', 'm', 'v']);
    await sleep(5);
    process.exit(7);
  },

  async terminatesWorkersInAStep() {
    for (const [delay, mode] of [
      [0, 'step'],
      [30, 'step'],
      [60, 'many'],
      [30, 'case'],
      [5, 'create'],
    ] as const) {
      const worker = new Worker(here, { workerData: mode });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await sleep(delay);
      const began = performance.now();
      await worker.terminate();
      console.log(mode, Math.round(performance.now() - began));
    }
    // The thread team that they shared still works.
    await using model = await Model.create(TINY, { tokens: 32 });
    await model.step([makeBatch(32)], { lr: 1e-3, step: 1 });
    console.log('survived');
  },

  async workersTrainAtOnce() {
    const losses = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise<number>((resolve, reject) => {
            new Worker(here, { workerData: 'train' }).once('message', resolve).once('error', reject);
          }),
      ),
    );
    console.log(new Set(losses).size);
  },

  /** Needs --expose-gc: models that nobody disposes of give their memory back. */
  async collects() {
    const make = async (): Promise<void> => {
      const model = await Model.create({ ...TINY, vocab: 100_000 }, { tokens: 8, training: true, seed: null });
      await model.zeroGradients();
      await model.init(1);
    };
    let most = 0;
    for (let i = 0; i < 12; i++) {
      await make();
      for (let turn = 0; turn < 5; turn++) {
        (globalThis as { gc?: () => void }).gc!();
        await sleep(5);
      }
      most = Math.max(most, process.memoryUsage.rss());
    }
    const { arenaBytes } = Model.describe({ ...TINY, vocab: 100_000 }, { tokens: 8 });
    console.log(most < 6 * arenaBytes + 200e6 ? 'bounded' : `grew to ${most} bytes with models of ${arenaBytes}`);
  },
};

async function workerMain(mode: string): Promise<void> {
  if (mode === 'create') {
    const pending = Model.create({ ...TINY, vocab: 100_000 }, { tokens: 512 });
    parentPort!.postMessage('started');
    await pending;
    return;
  }
  if (mode === 'case') {
    const addon = loadAddon();
    const pending = addon.cases().map(({ name }) => addon.checkGradient(name));
    parentPort!.postMessage('started');
    await Promise.all(pending);
    return;
  }
  if (mode === 'train') {
    await using model = await Model.create(TINY, { tokens: 32 });
    let loss = 0;
    for (let step = 1; step <= 10; step++) ({ loss } = await model.step([makeBatch(32)], { lr: 1e-2, step }));
    parentPort!.postMessage(loss);
    return;
  }
  const models = await Promise.all(
    Array.from({ length: mode === 'many' ? 4 : 1 }, () => Model.create(SLOW, { device: 'reference', tokens: 128 })),
  );
  parentPort!.postMessage('started');
  for (let step = 1; ; step++)
    await Promise.all(models.map((model) => model.step([makeBatch(128, 300)], { lr: 1e-3, step })));
}

if (isMainThread) await scenarios[process.argv[2]!]!();
else await workerMain(workerData as string);
