import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parseModelConfig } from '../../lib/config/model_config.js';
import { startPeers, type PeerWork } from '../../lib/bench/peers.js';
import { MotError } from '../../lib/errors.js';

/**
 * Stands for Python: answers as benchmarks/peers/server.py does, without a library. It notes every request in LOG. By the
 * width or rows asked for: 1 fails, 2 ends the process, 3 never answers.
 */
const SERVER = `#!${process.execPath}
const { appendFileSync } = require('node:fs');
const { createInterface } = require('node:readline');
const peer = process.argv[process.argv.indexOf('--peer') + 1];
const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\\n');
if (process.env.MOT_TEST_NO_TORCH) {
  say({ error: 'Python cannot import torch: No module named torch', install: 'torch' });
  process.exit(0);
}
if (peer === 'openblas') say({ error: 'RuntimeError: numpy uses mkl, not OpenBLAS' });
else say({ ready: true, version: 'library 1' });
createInterface({ input: process.stdin }).on('line', (line) => {
  const { forget, op, variant, shape, repeats } = JSON.parse(line);
  if (forget) return say({});
  appendFileSync(process.env.MOT_TEST_LOG, [peer, variant ?? '-', op, repeats, process.pid].join(' ') + '\\n');
  const width = shape.width ?? shape.tokens;
  if (width === 1) return say({ error: 'ValueError: no' });
  if (width === 2) {
    console.error('Segmentation fault');
    process.exit(3);
  }
  if (width === 3 && peer === 'torch_compile') return;
  say({ ms: Array(repeats).fill(repeats + 0.5), parts: repeats ? { backward: Array(repeats).fill(0.5) } : {}, peak_rss_mb: 7 });
});
`;

let folder: string;
let python: string;
let log: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-peers-'));
  python = join(folder, 'python3');
  log = join(folder, 'log');
  writeFileSync(python, SERVER);
  chmodSync(python, 0o755);
  process.env['MOT_TEST_LOG'] = log;
});
afterAll(() => {
  delete process.env['MOT_TEST_LOG'];
  rmSync(folder, { recursive: true, force: true });
});

async function logged(): Promise<string[]> {
  const { readFileSync } = await import('node:fs');
  return readFileSync(log, 'utf8').trim().split('\n');
}

async function timed(works: readonly PeerWork[], options = {}): Promise<{ results: unknown[]; requests: string[][] }> {
  writeFileSync(log, '');
  const peers = await startPeers({ threads: 2, python, prepareLimitMs: 1500 });
  try {
    const results = await peers.time(works, { turns: 2, repeats: 2, ...options });
    return { results, requests: (await logged()).map((line) => line.split(' ')) };
  } finally {
    await peers.close();
  }
}

const gemm: PeerWork = { op: 'gemm', dtype: 'f32', shape: { form: 'd_w', tokens: 8, in: 8, out: 8 } };
const loss = (width: number): PeerWork => ({ op: 'loss', dtype: 'f32', shape: { tokens: 8, width, vocab: 8 } });
const times = { ms: [2.5, 2.5, 2.5, 2.5], parts: { backward: [0.5, 0.5, 0.5, 0.5] }, peak_rss_mb: 7 };

describe('peers', () => {
  test('take turns with ours, after all are warm; a library that is not there is missing', async () => {
    const { results, requests } = await timed([gemm], {
      beside: async () => writeFileSync(log, 'ours - gemm 2 0\n', { flag: 'a' }),
    });
    expect(results).toEqual([
      { torch_eager: times, onednn: times, openblas: { missing: expect.stringContaining('not OpenBLAS') } },
    ]);
    expect(requests.map(([peer, , , repeats]) => `${peer} ${repeats}`)).toEqual([
      ...['torch_eager 0', 'onednn 0'],
      ...['ours 2', 'torch_eager 2', 'onednn 2'],
      ...['ours 2', 'torch_eager 2', 'onednn 2'],
    ]);
  });

  test('bf16 products compete once, in oneDNN', async () => {
    expect((await timed([{ ...gemm, dtype: 'bf16' }])).results).toEqual([{ onednn: times }]);
  });

  test('errors, ended processes and compilers that take too long are missing, with the reason; the next case goes on', async () => {
    const { results } = await timed([loss(1), loss(2), loss(3), loss(4)]);
    const missing = (reason: string) => ({ missing: expect.stringContaining(reason) });
    expect(results).toEqual([
      { torch_eager: missing('ValueError: no'), torch_compile: missing('ValueError: no') },
      { torch_eager: missing('Segmentation fault'), torch_compile: missing('Segmentation fault') },
      { torch_eager: times, torch_compile: missing('more than 1.5 s') },
      { torch_eager: times, torch_compile: times },
    ]);
  });

  test('AdamW: for each and fused', async () => {
    const { results } = await timed([{ op: 'optimizer', dtype: 'f32', shape: { sizes: [8] } }]);
    expect(Object.keys(results[0] as object)).toEqual(['torch_eager_foreach', 'torch_eager_fused', 'torch_compile']);
  });

  test('steps run one after the other, each in a process of its own', async () => {
    const config = { vocab: 8, d_model: 8, n_layers: 1, n_heads: 1, modalities: ['text', 'image'] };
    const step = (untied: boolean): PeerWork => ({
      op: 'step',
      dtype: 'f32',
      shape: { model: parseModelConfig({ ...config, untied }), batch: 1, tokens: 8, spans: [[0, 4], [1, 4]] }, // prettier-ignore
    });
    const { results, requests } = await timed([step(false), step(true)], { turns: 1, repeats: 1 });
    const names = results.flatMap((result) => Object.keys(result as object));
    expect(names).toEqual([
      ...['torch_eager', 'torch_compile'],
      ...['torch_eager_mask', 'torch_eager_index', 'torch_compile_mask', 'torch_compile_index'],
    ]);
    expect(requests.map(([peer, variant]) => (variant === '-' ? peer : `${peer}_${variant}`))).toEqual(
      names.flatMap((name) => [name, name]),
    );
    expect(new Set(requests.map((request) => request[4])).size).toBe(names.length);
  });
});

describe('what is missing', () => {
  test('no Python', async () => {
    const error = await startPeers({ threads: 1, python: join(folder, 'none') }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(MotError);
    expect(error).toMatchObject({ code: 'ERR_UNSUPPORTED', message: expect.stringContaining('set MOT_PYTHON') });
  });

  test('no PyTorch', async () => {
    process.env['MOT_TEST_NO_TORCH'] = '1';
    try {
      await expect(startPeers({ threads: 1, python })).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringMatching(/Python cannot import torch.*-m pip install torch numpy/),
      });
    } finally {
      delete process.env['MOT_TEST_NO_TORCH'];
    }
  });
});
