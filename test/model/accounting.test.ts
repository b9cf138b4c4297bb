import { describe, expect, test } from '@jest/globals';
import { totalmem } from 'node:os';
import { machineMemory } from '../../lib/machine.js';
import { trainingMemory } from '../../lib/model/fit.js';
import { Model, type ModelConfigInput } from '../../lib/model/model.js';
import { parameterCount } from '../../lib/model/parameters.js';

const BASE = { vocab: 100, d_model: 64, n_layers: 3, n_heads: 4, ffn_dim: 96, modalities: ['text', 'image', 'speech'] };
// With norms: 64 before each branch, 16 for queries and 16 for keys.
const ATTENTION = 3 * (4 * 64 * 64 + 64 + 32);
const MLP = 3 * (3 * 64 * 96 + 64);
const EMBEDDING = 100 * 64;

function count(more: Partial<ModelConfigInput>): ReturnType<typeof parameterCount> {
  const { config, tensors, parameters } = Model.describe({ ...BASE, ...more }, { tokens: 16 });
  const counted = parameterCount(config, tensors);
  expect(counted.total).toBe(parameters);
  return counted;
}

describe('parameters by place', () => {
  const dense = ATTENTION + MLP + 64;
  const part = { self_attn: ATTENTION, mlp: MLP, final: 64 };

  test('dense and MoT', () => {
    expect(count({ untied: false })).toEqual({
      total: dense + 2 * EMBEDDING,
      embedding: EMBEDDING,
      head: EMBEDDING,
      nonEmbedding: dense,
      towers: { shared: part },
      active: { text: dense + 2 * EMBEDDING, image: dense + 2 * EMBEDDING, speech: dense + 2 * EMBEDDING },
    });
    expect(count({}).towers).toEqual({ text: part, image: part, speech: part });
  });

  test('untied part by part: the feed-forward part, then attention, then the final norm', () => {
    const shared = { self_attn: 0, mlp: 0, final: 0 };
    const ffn = count({ untied: { self_attn: false, final: false } });
    const own = { ...shared, mlp: MLP };
    expect(ffn.towers).toEqual({ shared: { ...part, mlp: 0 }, text: own, image: own, speech: own });
    const attention = count({ untied: { final: false } });
    expect(attention.towers['shared']).toEqual({ ...shared, final: 64 });
    const totals = [count({ untied: false }), ffn, attention, count({})].map(({ nonEmbedding }) => nonEmbedding);
    expect(totals.slice(1).map((total, i) => total - totals[i]!)).toEqual([2 * MLP, 2 * ATTENTION, 2 * 64]);
    for (const { active } of [ffn, attention]) expect(active['image']).toBe(dense + 2 * EMBEDDING);
  });

  test('norms of the branches untied by themselves', () => {
    const norms = 3 * 2 * 64;
    const { towers, active, nonEmbedding } = count({
      untied: { self_attn: false, mlp: false, final: false, norms: true },
    });
    const own = { self_attn: 0, mlp: 0, final: 0, norms };
    expect(towers).toEqual({
      shared: { self_attn: ATTENTION - norms / 2, mlp: MLP - norms / 2, final: 64, norms: 0 },
      text: own,
      image: own,
      speech: own,
    });
    expect(nonEmbedding).toBe(dense + 2 * norms);
    for (const value of Object.values(active)) expect(value).toBe(dense + 2 * EMBEDDING);
  });

  test('of experts as many as a token goes to', () => {
    const active = (experts: ModelConfigInput['experts']): number => count({ untied: false, experts }).active['text']!;
    // Routers and experts of every layer.
    const others = dense + 2 * EMBEDDING - 3 * 3 * 64 * 96;
    expect(active({ shared: 4 })).toBe(others + 3 * (4 * 64 + 3 * 64 * 96));
    expect(active({ shared: { count: 8, capacity_factor: 1.5 } })).toBe(others + 3 * (8 * 64 + 1.5 * 3 * 64 * 96));
    const two = { count: 4, routing: 'token_choice', top_k: 2 } as const;
    expect(active({ shared: two })).toBe(others + 3 * (4 * 64 + 2 * 3 * 64 * 96));
  });

  test('two modalities that share a tower', () => {
    const towers = { text: 'text', image: 'other', speech: 'other' };
    const { towers: counted, active } = count({ towers: { self_attn: towers, mlp: towers, final: towers } });
    expect(counted).toEqual({ text: part, other: part });
    expect(active['speech']).toBe(dense + 2 * EMBEDDING);
  });
});

describe('memory of training', () => {
  const shape = { sequences: 2, length: 128 };
  const limit = 2e9;
  const ways = trainingMemory(BASE, shape, { limit, available: limit });
  const plan = (sequences: number, length: number, { dtype, checkpointing }: (typeof ways)[number]): number =>
    Model.describe(BASE, { tokens: sequences * length, positions: length, dtype, checkpointing }).arenaBytes;
  const most = limit - 2 ** 29;

  test('is that of the plan, for each number format and mode', () => {
    expect(ways.map(({ dtype, checkpointing }) => `${dtype} ${checkpointing}`)).toEqual([
      'f32 none',
      'f32 attention',
      'f32 block',
      'bf16 none',
      'bf16 attention',
      'bf16 block',
    ]);
    for (const way of ways) {
      expect(way.arenaBytes).toBe(plan(2, 128, way));
      const sum = Object.values(way.groups).reduce((a, b) => a + b);
      expect(sum).toBeGreaterThanOrEqual(0.99 * way.arenaBytes);
      expect(way.groups['optimizer']).toBe(2 * way.groups['weights']!);
    }
    const [none, attention, block] = ways.map(({ arenaBytes }) => arenaBytes);
    expect(none!).toBeGreaterThan(attention!);
    expect(attention!).toBeGreaterThan(block!);
    expect(ways[3]!.arenaBytes).toBeLessThan(none!);
  });

  test('averaged weights count', () => {
    const averaging = trainingMemory(BASE, shape, { limit, available: limit }, { ema: true });
    averaging.forEach(({ groups, arenaBytes }, i) => {
      expect(groups['averaged weights']).toBe(groups['weights']);
      expect(arenaBytes - ways[i]!.arenaBytes).toBe(Math.ceil(groups['weights']! / 64) * 64);
    });
    expect(ways[0]!.groups).not.toHaveProperty('averaged weights');
  });

  test('what fits is the largest that does', () => {
    for (const way of ways) {
      const { sequences, length } = way.fits;
      expect(length).toBe(128);
      expect(plan(sequences, length, way)).toBeLessThanOrEqual(most);
      expect(plan(sequences + 1, length, way)).toBeGreaterThan(most);
    }
  });

  test('a shorter sequence where no whole one fits, and nothing where not one token does', () => {
    const length = 2 ** 20;
    for (const way of trainingMemory(BASE, { sequences: 1, length }, { limit, available: limit })) {
      expect(way.fits.sequences).toBe(1);
      expect(way.fits.length).toBeLessThan(length);
      expect(plan(1, way.fits.length, way)).toBeLessThanOrEqual(most);
      expect(plan(1, way.fits.length + 1, way)).toBeGreaterThan(most);
    }
    for (const { fits } of trainingMemory(BASE, shape, { limit: 2 ** 29, available: 0 }))
      expect(fits).toEqual({ sequences: 0, length: 0 });
  });
});

test('the memory of this machine', () => {
  const { limit, available } = machineMemory();
  expect(limit).toBeGreaterThan(0);
  expect(limit).toBeLessThanOrEqual(totalmem());
  expect(available).toBeGreaterThan(0);
  expect(available).toBeLessThanOrEqual(limit);
});
