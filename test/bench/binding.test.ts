import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { bindingSuite } from '../../lib/bench/binding.js';
import { BINDINGS, loadBindings } from '../../lib/bench/binding_build.js';
import type { BenchContext } from '../../lib/bench/types.js';

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'mot-binding-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('both addons build from nothing and read a Float32Array, also a view of a larger buffer', () => {
  const addons = loadBindings({ folder });
  const buffer = new ArrayBuffer(64);
  new Float32Array(buffer).set([0, 1.5, 2.5, 3.5]);
  for (const binding of BINDINGS) {
    expect(addons[binding].empty()).toBeUndefined();
    expect(addons[binding].first(new Float32Array(buffer, 8))).toBe(2.5);
  }
});

test('they are built once', () => {
  const built = () => BINDINGS.map((binding) => statSync(join(folder, `${binding}_calls.node`)).mtimeMs);
  const before = built();
  loadBindings({ folder });
  expect(built()).toEqual(before);
});

test('without a compiler the error says what to install', () => {
  const { PATH, CXX } = process.env;
  process.env['PATH'] = '';
  delete process.env['CXX'];
  try {
    expect(() => loadBindings({ folder: join(folder, 'none') })).toThrow(/no C\+\+ compiler; install GCC 11/);
  } finally {
    process.env['PATH'] = PATH;
    if (CXX !== undefined) process.env['CXX'] = CXX;
  }
});

test('the suite gives nanoseconds a call for each binding', async () => {
  const context = { repeats: () => 2, progress: async () => {} } as unknown as BenchContext;
  const cases = await bindingSuite(context, { folder });
  expect(cases.map(({ name }) => name)).toEqual([
    'a million empty calls, node-addon-api',
    'a million empty calls, V8 by nan',
    'a million calls with a Float32Array, node-addon-api',
    'a million calls with a Float32Array, V8 by nan',
  ]);
  for (const { ns_per_call, median_ms } of cases) {
    expect(ns_per_call).toBeGreaterThan(1);
    expect(ns_per_call).toBeLessThan(100_000);
    expect(median_ms).toBeCloseTo(ns_per_call!, 9);
  }
  expect(cases.map(({ ratio_to_nan }) => ratio_to_nan !== undefined)).toEqual([true, false, true, false]);
});
