import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { MotError } from '../../lib/errors.js';
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js';
import { Model } from '../../lib/model/model.js';
import { loopGaps, makeBatch, SLOW, TINY, weightBytes } from './tiny_model.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-session-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function errorOf(promise: Promise<unknown>): Promise<MotError> {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(MotError);
    return error as MotError;
  }
  throw new Error('expected the call to fail');
}

const step = (n: number) => ({ lr: 1e-2, step: n });

describe.each(['reference', 'cpu'] as const)('%s', (device) => {
  test.each(['f32', 'bf16'] as const)('training in %s lowers the loss and uses the memory planned', async (dtype) => {
    await using model = await Model.create(TINY, { device, dtype, tokens: 32 });
    const batch = makeBatch(32);
    const losses: number[] = [];
    for (let n = 1; n <= 20; n++) losses.push((await model.step([batch], step(n))).loss);
    expect(losses[0]).toBeCloseTo(Math.log(64), 0);
    expect(losses[19]).toBeLessThan(losses[0]! / 2);
    const { arenaBytes, highWaterBytes } = model.memory();
    expect(highWaterBytes).toBe(arenaBytes);
    expect(model.plan().reduce((end, entry) => Math.max(end, entry.offset + entry.bytes), 0)).toBe(arenaBytes);
  });

  test('step is zeroGradients, backward of each micro-batch, adamw', async () => {
    await using one = await Model.create(TINY, { device, tokens: 32 });
    await using other = await Model.create(TINY, { device, tokens: 32 });
    const [a, b] = [makeBatch(32, 64, 1), makeBatch(20, 64, 2)];
    const whole = await one.step([a, b], step(1));
    await other.zeroGradients();
    const first = await other.backward(a, { totalTargets: 31 + 19 });
    const second = await other.backward(b, { totalTargets: 31 + 19 });
    const { gradNorm, applied } = await other.adamw(step(1));
    expect(applied).toBe(true);
    expect(gradNorm).toBe(whole.gradNorm);
    expect(first.loss + second.loss).toBeCloseTo(whole.loss, 12);
    expect(await weightBytes(one)).toEqual(await weightBytes(other));
    expect([...whole.targetCount].reduce((x, y) => x + y)).toBe(50);
  });

  test('a step over its limits changes nothing, and still tells loss and norm', async () => {
    await using model = await Model.create(TINY, { device, tokens: 32 });
    const batch = makeBatch(31);
    await model.step([batch], step(1));
    const weights = await weightBytes(model);
    const norm = await model.readTensor('m', 'lm_head.weight');
    const refused = await model.step([batch], step(2), { maxLoss: 0.1 });
    expect(refused.applied).toBe(false);
    const { loss, gradNorm } = refused;
    expect(loss).toBeGreaterThan(0.1);
    expect(gradNorm).toBeGreaterThan(0);
    for (const options of [{ maxGradNorm: 0.99 * gradNorm }, { maxLoss: 0.99 * loss, maxGradNorm: 2 * gradNorm }])
      expect(await model.step([batch], step(2), options)).toMatchObject({ applied: false, loss, gradNorm });
    expect(await weightBytes(model)).toEqual(weights);
    expect(await model.readTensor('m', 'lm_head.weight')).toEqual(norm);
    const limits = { maxLoss: loss, maxGradNorm: gradNorm };
    expect(await model.step([batch], step(2), limits)).toMatchObject({ applied: true, loss, gradNorm });
    expect(await weightBytes(model)).not.toEqual(weights);
    expect((await errorOf(model.step([batch], step(3), { maxLoss: NaN }))).message).toMatch(/limits\.maxLoss/);
  });

  test('logProbs, logits, losses and decode agree', async () => {
    await using model = await Model.create(TINY, { device, tokens: 32, kv_slots: 40 });
    const batch = makeBatch(12);
    const every = Int32Array.from({ length: 12 }, (_, i) => i);
    const logits = await model.forward(batch, every, 'logits');
    const logProbs = await model.logProbs(batch);
    const { ceSum } = await model.evaluate(batch);
    let sum = 0;
    for (let i = 0; i < 11; i++) {
      const row = logits.subarray(i * 64, i * 64 + 64);
      const lse = Math.log(row.reduce((total, x) => total + Math.exp(x), 0));
      expect(logProbs[i]).toBeCloseTo(row[batch.target[i]!]! - lse, 4);
      sum -= logProbs[i]!;
    }
    expect(logProbs[11]).toBe(0);
    expect(Object.is(logProbs[11], -0)).toBe(false);
    expect(ceSum[0]! + ceSum[1]!).toBeCloseTo(sum, 4);

    const slice = (from: number, to: number) => ({
      token: batch.token.slice(from, to),
      modality: batch.modality.slice(from, to),
      position: batch.position.slice(from, to),
      kvStart: batch.kvStart.slice(from, to),
      kvEnd: batch.kvEnd.slice(from, to),
      slot: every.slice(from, to),
    });
    await model.decode(slice(0, 8), new Int32Array(0));
    const decoded = await model.decode(slice(8, 12), Int32Array.of(0, 3));
    for (let v = 0; v < 64; v++) {
      expect(decoded[v]).toBeCloseTo(logits[8 * 64 + v]!, 4);
      expect(decoded[64 + v]).toBeCloseTo(logits[11 * 64 + v]!, 4);
    }
  });

  test('backwardFrom the gradient of the cross-entropy is backward', async () => {
    await using model = await Model.create(TINY, { device, tokens: 16 });
    const batch = makeBatch(10);
    const positions = Int32Array.from({ length: 9 }, (_, i) => i);
    const logits = await model.forward(batch, positions, 'logits');
    const gradient = new Float32Array(logits.length);
    for (let i = 0; i < 9; i++) {
      const row = logits.subarray(i * 64, i * 64 + 64);
      const total = row.reduce((s, x) => s + Math.exp(x), 0);
      row.forEach((x, v) => (gradient[i * 64 + v] = (Math.exp(x) / total - (v === batch.target[i] ? 1 : 0)) / 9));
    }
    await model.zeroGradients();
    await model.backward(batch);
    const name = 'layers.0.text.self_attn.q_proj.weight';
    const expected = await model.readTensor('gradient', name);
    await model.zeroGradients();
    await model.backwardFrom(batch, positions, 'logits', gradient);
    const actual = await model.readTensor('gradient', name);
    const norm = Math.hypot(...expected);
    expect(norm).toBeGreaterThan(0);
    expect(Math.hypot(...actual.map((x, i) => x - expected[i]!)) / norm).toBeLessThan(1e-4);
  });
});

test('arrays are copied at the call', async () => {
  await using a = await Model.create(TINY, { tokens: 32 });
  await using b = await Model.create(TINY, { tokens: 32 });
  const batch = makeBatch(32);
  const kept = await a.step([batch], step(1));
  const pending = b.step([batch], step(1));
  for (const array of Object.values(batch)) (array as Int32Array).fill(-9);
  expect((await pending).loss).toBe(kept.loss);
});

test('save and load give the same bits, and training goes on as if nothing had been', async () => {
  const path = join(folder, 'model.safetensors');
  await using a = await Model.create(TINY, { tokens: 32, seed: 5 });
  await using b = await Model.create(TINY, { tokens: 32, seed: null });
  const batch = makeBatch(32);
  await a.step([batch], step(1));
  const crc = await a.save(path, ['weight', 'm', 'v'], { note: 'é' });
  expect(crc).toMatch(/^[0-9a-f]{8}$/);
  using file = await SafetensorsFile.open(path);
  expect(JSON.parse(file.metadata['config']!)).toEqual(a.config);
  expect(file.metadata['note']).toBe('é');
  await b.load(path, ['weight', 'm', 'v']);
  expect(await weightBytes(b)).toEqual(await weightBytes(a));
  expect(await a.step([batch], step(2))).toMatchObject({ loss: (await b.step([batch], step(2))).loss });
  expect(await weightBytes(b)).toEqual(await weightBytes(a));
  await using other = await Model.create(JSON.parse(file.metadata['config']!) as typeof TINY, { tokens: 8 });
  expect(other.config).toEqual(a.config);
});

test('a snapshot is saved as the model was, while training goes on', async () => {
  const [now, later] = [join(folder, 'now.safetensors'), join(folder, 'later.safetensors')];
  const kinds = ['weight', 'm', 'v'] as const;
  await using model = await Model.create(TINY, { tokens: 32, seed: 5 });
  const batch = makeBatch(32);
  await model.step([batch], step(1));
  const crc = await model.save(now, kinds);
  const snapshot = await model.snapshot(kinds);
  await model.step([batch], step(2));
  const saved = snapshot.save(later, kinds);
  await model.step([batch], step(3));
  snapshot.dispose();
  snapshot.dispose();
  expect(await saved).toBe(crc);
  expect(readFileSync(later).equals(readFileSync(now))).toBe(true);
  expect((await errorOf(snapshot.save(later, kinds))).code).toBe('ERR_DISPOSED');
  using weights = await model.snapshot();
  expect((await errorOf(weights.save(later, ['m']))).message).toMatch(/taken without tensors of this kind/);
  expect((await errorOf(weights.save(join(folder, 'no', 'folder')))).code).toBe('ERR_FILE_WRITE');
  // One that outlives its model.
  await model.dispose();
  const last = join(folder, 'last.safetensors');
  await weights.save(last);
  await using again = await Model.create(TINY, { tokens: 32, seed: null });
  await again.load(last);
  await using inference = await Model.create(TINY, { tokens: 8, training: false });
  expect((await errorOf(inference.snapshot(['m']))).code).toBe('ERR_ARGUMENT');
});

test('load replaces nothing unless everything is right', async () => {
  const path = join(folder, 'broken.safetensors');
  await using model = await Model.create(TINY, { tokens: 8 });
  const before = await weightBytes(model);
  const tensors = await Promise.all(
    model.tensors().map(async ({ name, shape }) => ({ name, shape, data: await model.readTensor('weight', name) })),
  );
  tensors.forEach(({ data }) => data.fill(1));

  expect((await errorOf(model.load(join(folder, 'none')))).code).toBe('ERR_FILE_OPEN');
  await writeSafetensors(path, tensors.slice(0, -1));
  expect((await errorOf(model.load(path))).message).toMatch(/no tensor lm_head\.weight/);
  const last = tensors.at(-1)!;
  await writeSafetensors(path, [...tensors.slice(0, -1), { ...last, shape: [...last.shape].reverse() }]);
  expect((await errorOf(model.load(path))).message).toMatch(/has shape \[32, 64\].*needs \[64, 32\]/);
  last.data[7] = NaN;
  await writeSafetensors(path, tensors);
  const error = await errorOf(model.load(path));
  expect(error.code).toBe('ERR_NOT_FINITE');
  expect(error.message).toMatch(/element 7 of lm_head\.weight/);
  truncateSync(path, 5000);
  expect((await errorOf(model.load(path))).code).toBe('ERR_FILE_FORMAT');
  writeFileSync(path, 'not a safetensors file');
  expect((await errorOf(model.load(path))).code).toBe('ERR_FILE_FORMAT');
  expect(await weightBytes(model)).toEqual(before);

  expect((await errorOf(model.save(join(folder, 'no', 'folder')))).code).toBe('ERR_FILE_WRITE');
  expect((await errorOf(model.save('a\0b'))).code).toBe('ERR_ARGUMENT');
});

test('wrong arguments and batches are errors with codes and sentences', async () => {
  await using model = await Model.create(TINY, { tokens: 16, positions: 20 });
  const good = makeBatch(8);
  const set = (key: keyof typeof good, index: number, value: number) => {
    const batch = { ...good, [key]: good[key].slice() };
    batch[key][index] = value;
    return batch;
  };
  const cases: [Promise<unknown>, string, RegExp][] = [
    [model.evaluate(set('token', 3, 64)), 'ERR_BATCH', /token\[3\]/],
    [model.evaluate(set('token', 3, -1)), 'ERR_BATCH', /token\[3\]/],
    [model.evaluate(set('modality', 2, 2)), 'ERR_BATCH', /modality\[2\]/],
    [model.evaluate(set('position', 0, 20)), 'ERR_BATCH', /position\[0\]/],
    [model.evaluate(set('target', 0, 64)), 'ERR_BATCH', /target\[0\]/],
    [model.evaluate(set('targetModality', 0, 5)), 'ERR_BATCH', /target_modality\[0\]/],
    [model.evaluate(set('kvEnd', 3, 9)), 'ERR_BATCH', /kv_end\[3\]/],
    [model.evaluate(set('kvStart', 3, 4)), 'ERR_BATCH', /kv_start\[3\]/],
    [model.evaluate({ ...good, position: new Int32Array(7) }), 'ERR_BATCH', /position.*8 entries.*7/],
    [model.evaluate({ ...good, token: new Float32Array(8) as never }), 'ERR_ARGUMENT', /batch\.token.*Int32Array/],
    [model.evaluate({ ...good, kvEnd: undefined as never }), 'ERR_ARGUMENT', /batch\.kvEnd/],
    [model.evaluate(undefined as never), 'ERR_ARGUMENT', /batch/],
    [model.evaluate(makeBatch(0)), 'ERR_BATCH', /at least one token/],
    [model.evaluate(makeBatch(17)), 'ERR_LIMIT', /16 tokens/],
    [model.step([], step(1)), 'ERR_ARGUMENT', /micro-batch/],
    [model.step([good], step(0)), 'ERR_ARGUMENT', /step/],
    [model.step([good], { lr: NaN, step: 1 }), 'ERR_ARGUMENT', /lr/],
    [model.step([good], { lr: 1, step: 1, weight_decay: 1 } as never), 'ERR_ARGUMENT', /did you mean weightDecay/],
    [model.forward(good, Int32Array.of(8), 'logits'), 'ERR_ARGUMENT', /positions\[0\].*0 to 7/],
    [model.forward(good, Int32Array.of(0), 'logit' as never), 'ERR_ARGUMENT', /hidden.*logits/],
    [model.backwardFrom(good, Int32Array.of(1, 1), 'hidden', new Float32Array(64)), 'ERR_ARGUMENT', /distinct/],
    [model.backwardFrom(good, Int32Array.of(1), 'hidden', new Float32Array(31)), 'ERR_ARGUMENT', /1 x 32/],
    [
      model.backwardFrom(good, Int32Array.of(1), 'hidden', new Float32Array(32).fill(NaN)),
      'ERR_NOT_FINITE',
      /gradient/,
    ],
    [model.decode({ ...good, slot: new Int32Array(8) }, Int32Array.of(0)), 'ERR_LIMIT', /kv_slots/],
    [model.readTensor('weight', 'lm_hed.weight'), 'ERR_TENSOR_NAME', /lm_head\.weight/],
    [model.readTensor('weights' as never, 'lm_head.weight'), 'ERR_ARGUMENT', /kind/],
    [model.writeTensor('weight', 'lm_head.weight', new Float32Array(3)), 'ERR_ARGUMENT', /2048 values/],
    [model.writeTensor('weight', 'lm_head.weight', new Float32Array(2048).fill(Infinity)), 'ERR_NOT_FINITE', /lm_head/],
    [Model.create(TINY, { tokens: 0 }), 'ERR_ARGUMENT', /tokens/],
    [Model.create(TINY, { device: 'gpu' as never }), 'ERR_ARGUMENT', /device/],
    [Model.create(TINY, { token: 4 } as never), 'ERR_ARGUMENT', /did you mean tokens/],
    [Model.create({ ...TINY, vocab: 2 ** 28, d_model: 2 ** 14, n_heads: 16 }), 'ERR_CONFIG', /2\^40 parameters/],
  ];
  for (const [promise, code, message] of cases) {
    const error = await errorOf(promise);
    expect(`${error.code}: ${error.message}`).toMatch(message);
    expect(error.code).toBe(code);
  }
  expect((await model.evaluate(good)).loss).toBeGreaterThan(0);
});

test('a plan that the system cannot hold is an error', async () => {
  // Where the system promises memory that it lacks (overcommit 1), it would only fail once the memory is used.
  if (readFileSync('/proc/sys/vm/overcommit_memory', 'utf8').trim() === '1') return;
  const huge = { ...TINY, vocab: 2 ** 24, d_model: 2 ** 14, n_heads: 16 };
  expect(Model.describe(huge, { tokens: 8 }).arenaBytes).toBeGreaterThan(2 ** 42);
  expect((await errorOf(Model.create(huge, { tokens: 8, seed: null }))).code).toBe('ERR_MEMORY');
});

test('without training there are no gradients', async () => {
  await using model = await Model.create(TINY, { tokens: 8, training: false });
  for (const promise of [
    model.step([makeBatch(8)], step(1)),
    model.backward(makeBatch(8)),
    model.zeroGradients(),
    model.readTensor('m', 'lm_head.weight'),
  ])
    expect((await errorOf(promise)).message).toMatch(/training/);
});

test('errors keep the stack of the caller', async () => {
  await using model = await Model.create(TINY, { tokens: 8 });
  async function theCaller(): Promise<void> {
    await model.readTensor('weight', 'nothing');
  }
  expect((await errorOf(theCaller())).stack).toMatch(/Model\.readTensor[^]*theCaller/);
});

describe('abort', () => {
  test('an aborted step leaves weights and moments as they were', async () => {
    await using model = await Model.create(SLOW, { device: 'reference', tokens: 128 });
    const batch = makeBatch(128, 300);
    await model.step([batch], step(1));
    const before = await weightBytes(model);
    const m = await model.readTensor('m', 'lm_head.weight');
    // So many that the whole step would take a second at least, whatever the machine.
    const microBatches = Array.from({ length: 40 }, () => batch);
    for (const delay of [0, 20, 60]) {
      const controller = new AbortController();
      const pending = model.step(microBatches, step(2), { signal: controller.signal });
      setTimeout(() => controller.abort(new Error('enough')), delay);
      const error = await errorOf(pending);
      expect(error.code).toBe('ERR_ABORTED');
      expect((error.cause as Error).message).toBe('enough');
    }
    expect(await weightBytes(model)).toEqual(before);
    expect(await model.readTensor('m', 'lm_head.weight')).toEqual(m);
    const gradient = await model.readTensor('gradient', 'lm_head.weight');
    expect(gradient.every((x) => x === 0)).toBe(true);
  });

  test('a signal that has fired already, one that fires while the call waits, one that fires after it', async () => {
    await using model = await Model.create(SLOW, { device: 'reference', tokens: 128 });
    const before = await weightBytes(model);
    expect((await errorOf(model.step([makeBatch(8)], step(1), { signal: AbortSignal.abort() }))).code).toBe(
      'ERR_ABORTED',
    );
    const controller = new AbortController();
    const ahead = model.evaluate(makeBatch(128, 300));
    const pending = model.step([makeBatch(8)], step(1), { signal: controller.signal });
    controller.abort();
    expect((await errorOf(pending)).code).toBe('ERR_ABORTED');
    await ahead;
    expect(await weightBytes(model)).toEqual(before);
    const late = new AbortController();
    await model.step([makeBatch(8)], step(1), { signal: late.signal });
    late.abort();
    expect(await weightBytes(model)).not.toEqual(before);
  });
});

describe('dispose', () => {
  test('aborts the running call, rejects the waiting ones, and may be called again', async () => {
    const model = await Model.create(SLOW, { device: 'reference', tokens: 128 });
    const batch = makeBatch(128, 300);
    const calls = [
      model.step([batch], step(1)),
      model.step([batch], step(2)),
      model.readTensor('weight', 'lm_head.weight'),
    ];
    const errors = Promise.all(calls.map(errorOf));
    const [first, second] = [model.dispose(), model.dispose()];
    await Promise.all([first, second]);
    expect((await errors).map(({ code }) => code)).toEqual(['ERR_DISPOSED', 'ERR_DISPOSED', 'ERR_DISPOSED']);
    await model.dispose();
    expect((await errorOf(model.evaluate(makeBatch(8)))).code).toBe('ERR_DISPOSED');
    expect(model.tensors().length).toBeGreaterThan(0);
  });

  test('await using disposes at the end of the block', async () => {
    let outside: Model;
    {
      await using model = await Model.create(TINY, { tokens: 8 });
      outside = model;
    }
    expect((await errorOf(outside.evaluate(makeBatch(8)))).code).toBe('ERR_DISPOSED');
  });
});

test('several sessions at once compute what each of them computes alone', async () => {
  const train = async (seed: number): Promise<Buffer> => {
    await using model = await Model.create(TINY, { tokens: 32, seed, threads: 2 });
    for (let n = 1; n <= 5; n++) await model.step([makeBatch(32, 64, seed)], step(n));
    return await weightBytes(model);
  };
  const seeds = [1, 2, 3, 4];
  const together = await Promise.all(seeds.map(train));
  for (const [i, seed] of seeds.entries()) expect(together[i]).toEqual(await train(seed));
});

test('the event loop turns while steps run', async () => {
  await using model = await Model.create(SLOW, { device: 'reference', tokens: 128, threads: 1 });
  const batch = makeBatch(128, 300);
  const began = performance.now();
  const pending = model.step([batch], step(1));
  const held = performance.now() - began;
  const gaps = (await loopGaps(pending)).sort((a, b) => a - b);
  const took = performance.now() - began;
  expect(took).toBeGreaterThan(50);
  expect(held).toBeLessThan(10);
  // The machine may hold us back now and then; the addon would hold every turn, or one for the length of the step.
  expect(gaps[Math.floor(gaps.length * 0.99)]).toBeLessThan(10);
  expect(gaps.at(-1)).toBeLessThan(took / 2);
});
