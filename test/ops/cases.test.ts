import { describe, expect, test } from '@jest/globals';
import { loadAddon } from '../../lib/native/load.js';

// Every op with every case, through the addon: the same cases as the native tests, for those without GoogleTest.
const addon = loadAddon();
// The cases named bench have sizes for timing; on the reference backend they would take minutes.
const cases = addon.cases().filter(({ name }) => !name.includes('/bench'));

test('there are cases of every op', () => {
  const ops = new Set(cases.map(({ op }) => op));
  expect([...ops].sort()).toEqual([
    'adamw',
    'attention',
    'dispatch',
    'ema',
    'embedding',
    'grad_norm',
    'grouped_gemm',
    'linear_cross_entropy',
    'qk_norm_rope',
    'rms_norm',
    'router',
    'routing',
    'silu',
    'squared_error',
    'swiglu',
  ]);
  for (const { name, flops, bytes } of cases) if (!/[/_]none$/.test(name)) expect(flops + bytes).toBeGreaterThan(0);
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
});

describe.each(cases.map(({ name }) => name))('%s', (name) => {
  test.each([
    ['reference', 'f32'],
    ['reference', 'bf16'],
    ['cpu', 'f32'],
    ['cpu', 'bf16'],
  ] as const)('on %s in %s is the reference in f64, within its tolerance', async (device, dtype) => {
    const { worst, message } = await addon.checkCase(name, device, dtype, 2);
    expect(message).toBe('');
    expect(worst).toBeLessThanOrEqual(1);
  });

  test('its gradients are finite differences', async () => {
    const { worst, message } = await addon.checkGradient(name);
    expect(message).toBe('');
    expect(worst).toBeLessThanOrEqual(1);
  });

  test.each(['f32', 'bf16'] as const)('in %s gives the same bits with one thread and with several', async (dtype) => {
    expect(await addon.checkThreads(name, 'cpu', dtype, 3)).toMatchObject({ worst: 0 });
  });
});

test('timing takes the cases in turn and times every call as often as asked', async () => {
  const names = ['rms_norm/odd_width', 'grouped_gemm/rows_63', 'linear_cross_entropy/strided', 'adamw/late'];
  const timed = await addon.timeCases(names, 'cpu', 'f32', 1, 3);
  expect(timed.map((calls) => calls.map(({ call }) => call))).toEqual([
    ['forward', 'backward'],
    ['forward', 'd_x', 'd_w'],
    ['forward', 'backward'],
    ['forward'],
  ]);
  for (const { flops, bytes, ms } of timed.flat()) {
    expect(ms).toHaveLength(3);
    expect(ms.every((time) => time > 0)).toBe(true);
    expect(Math.min(flops, bytes)).toBeGreaterThan(0);
  }
  // Every row is in a group: each of the three products has 2 * 63 * 100 * 72 operations.
  expect(timed[1]!.map(({ flops }) => flops)).toEqual([907200, 907200, 907200]);
});

test('unknown cases and devices are errors with codes', async () => {
  await expect(addon.checkCase('none', 'cpu', 'f32', 1)).rejects.toMatchObject({
    name: 'MotError',
    code: 'ERR_ARGUMENT',
  });
  expect(() => addon.checkCase('none', 'gpu', 'f32', 1)).toThrow(expect.objectContaining({ code: 'ERR_UNSUPPORTED' }));
  expect(() => addon.checkCase('none', 'cpu', 'f16' as never, 1)).toThrow(/f32.*bf16/);
});
