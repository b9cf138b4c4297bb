import { describe, expect, test } from '@jest/globals';
import { cosineSchedule } from '../../lib/generate/diffusion.js';
import { generate, type GenerateOptions } from '../../lib/generate/generate.js';
import { guidanceSlots, type ImageGeneration } from '../../lib/generate/images.js';
import type { DecodeBatch, Model } from '../../lib/model/model.js';
import { continuousModality } from '../../lib/modalities/vocabulary.js';
import { latentDocument, PATCH_DIM, vocabulary } from '../data/latent_documents.js';

const PATCHES = 2;
const STEPS = 50;
const BOS = 0;
const BEGIN = 2;
const END = 3;
const PATCH = 12;
const images: ImageGeneration = {
  modality: continuousModality(vocabulary)!,
  patches: PATCHES,
  samplingSteps: 10,
};

/** What stands before an image in its sequence, as a text, and how many patches are behind it. */
type Oracle = (before: string) => number;

/**
 * Stands for a model that has learnt everything: of an image it knows the clean value from what stands before it in its
 * sequence, and predicts the noise exactly. It keeps the cache as native code does, and checks every batch.
 */
class PerfectModel {
  readonly config = { vocab: vocabulary.size, diffusion: { modality: 'image', patch_dim: PATCH_DIM, steps: STEPS } };
  readonly cache: { token: number; position: number; value?: number }[] = [];
  readonly calls: DecodeBatch[] = [];
  readonly #schedule = cosineSchedule(STEPS);

  constructor(
    readonly limits: { tokens: number; kv_slots: number; positions: number },
    readonly clean: Oracle,
    /** The token that follows a text. */
    readonly follows: (before: string) => number = () => 1,
  ) {}

  decode(batch: DecodeBatch, positions: Int32Array, { output = 'logits' } = {}): Promise<Float32Array> {
    const { token, slot, position, kvStart, kvEnd, patchRow, latent, timestep, imageOfRow } = batch;
    this.calls.push(batch);
    expect(token.length).toBeLessThanOrEqual(this.limits.tokens);
    token.forEach((id, i) => {
      if (i > 0) expect(slot[i]!).toBeGreaterThan(slot[i - 1]!);
      expect(kvStart[i]!).toBeLessThanOrEqual(slot[i]!);
      expect(kvEnd[i]!).toBeGreaterThan(slot[i]!);
      expect(kvEnd[i]!).toBeLessThanOrEqual(this.limits.kv_slots);
      expect(position[i]).toBe(slot[i]! - kvStart[i]!);
      const row = patchRow?.[i] ?? -1;
      expect(row >= 0).toBe(id === PATCH);
      this.cache[slot[i]!] = {
        token: id,
        position: position[i]!,
        ...(row >= 0 && timestep![imageOfRow![row]!] === 0 ? { value: latent![row * PATCH_DIM]! } : {}),
      };
    });
    const before = (i: number, end: number): string =>
      this.cache
        .slice(kvStart[i], end)
        .map(({ token: id, value }) => (id === PATCH ? `[${value === undefined ? '?' : Math.round(value)}]` : id))
        .join(' ');
    const width = output === 'patches' ? PATCH_DIM : vocabulary.size;
    const out = new Float32Array(positions.length * width);
    positions.forEach((i, p) => {
      if (output === 'logits') {
        out[p * width + this.follows(before(i, slot[i]! + 1))] = 50;
        return;
      }
      const row = patchRow![i]!;
      const level = this.#schedule[timestep![imageOfRow![row]!]!]!;
      // All patches of an image see its end: what stands before it begins so much earlier.
      expect(kvEnd[i]! - slot[i]!).toBeGreaterThan(0);
      const clean = this.clean(before(i, kvEnd[i]! - PATCHES));
      for (let k = 0; k < PATCH_DIM; k++)
        out[p * width + k] = (latent![row * PATCH_DIM + k]! - Math.sqrt(level) * clean) / Math.sqrt(1 - level);
    });
    return Promise.resolve(out);
  }
}

async function run(
  model: PerfectModel,
  prompts: Parameters<typeof generate>[1],
  options: Partial<GenerateOptions> = {},
): Promise<{ tokens: number[][]; drawn: [sequence: number, values: number[]][] }> {
  const drawn: [number, number[]][] = [];
  const tokens = await generate(model as unknown as Model, prompts, {
    maxTokens: 12,
    temperature: 0,
    stopTokens: [1],
    images,
    onImage: (latent, sequence) => drawn.push([sequence, Array.from(latent)]),
    ...options,
  });
  return { tokens, drawn };
}

const LIMITS = { tokens: 8, kv_slots: 64, positions: 64 };
const prompt = (...token: number[]) => ({ token: [BOS, ...token], modality: [0, ...token.map(() => 0)] });
/** With the caption 5 images are 1, with 6 they are -1, without 0. */
const byCaption: Oracle = (before) => (before.includes('5') ? 1 : before.includes('6') ? -1 : 0);

describe('images behind a prompt', () => {
  test('follow its caption, and the sequence goes on with tokens that see the clean image', async () => {
    const seen: string[] = [];
    const model = new PerfectModel(LIMITS, byCaption, (before) => {
      seen.push(before);
      return before.endsWith(`${END}`) ? 7 : 1;
    });
    const { tokens, drawn } = await run(model, [prompt(5, BEGIN)], { images: { ...images, guidance: 1 } });
    expect(tokens).toEqual([[PATCH, PATCH, END, 7, 1]]);
    expect(drawn).toHaveLength(1);
    for (const value of drawn[0]![1]) expect(value).toBeCloseTo(1, 3);
    expect(seen.at(-1)).toBe(`${BOS} 5 ${BEGIN} [1] [1] ${END} 7`);
  });

  test('come where the model begins one, more than once', async () => {
    const model = new PerfectModel(LIMITS, byCaption, (before) => {
      if (before.endsWith('5')) return BEGIN;
      return before.split('[').length === 3 && before.endsWith(`${END}`) ? 5 : 1;
    });
    const { tokens, drawn } = await run(model, [prompt(5)]);
    const image = [BEGIN, PATCH, PATCH, END];
    expect(tokens).toEqual([[...image, 5, ...image, 1]]);
    expect(drawn.map(([sequence]) => sequence)).toEqual([0, 0]);
  });

  test('guidance exaggerates what the caption changes; 1 takes no second sequence', async () => {
    for (const [guidance, expected] of [
      [1, 1],
      [2, 2],
      [0.5, 0.5],
    ] as const) {
      const model = new PerfectModel(LIMITS, byCaption);
      const { drawn } = await run(model, [prompt(5, BEGIN)], { images: { ...images, guidance } });
      for (const value of drawn[0]![1]) expect(value).toBeCloseTo(expected, 2);
      const widest = Math.max(...model.calls.map(({ token }) => token.length));
      expect(widest).toBe(guidance === 1 ? 3 : 4);
    }
  });

  test('are drawn side by side, as many as a call takes, each behind its own prompt', async () => {
    const prompts = [prompt(5, BEGIN), prompt(7, 6, BEGIN), prompt(BEGIN), prompt(4, 4, 5, BEGIN), prompt(6, BEGIN)];
    const expected = [1, -1, 0, 1, -1];
    for (const limits of [LIMITS, { ...LIMITS, tokens: 4 }, { ...LIMITS, kv_slots: 20 }]) {
      const { drawn } = await run(new PerfectModel(limits, byCaption), prompts, {
        maxTokens: PATCHES,
        images: { ...images, guidance: 1.5 },
      });
      expect(drawn.map(([sequence]) => sequence).sort()).toEqual([0, 1, 2, 3, 4]);
      for (const [sequence, values] of drawn)
        for (const value of values) expect(value).toBeCloseTo(1.5 * expected[sequence]!, 2);
    }
  });

  test('are the same for a seed, alone or beside others', async () => {
    const noisy: Oracle = (before) => before.length / 10;
    const options = { maxTokens: PATCHES, seed: 3 };
    const draw = async (prompts: ReturnType<typeof prompt>[], seed = 3) =>
      (await run(new PerfectModel(LIMITS, noisy), prompts, { ...options, seed })).drawn[0]![1];
    const alone = await draw([prompt(5, BEGIN)]);
    expect(await draw([prompt(5, BEGIN), prompt(6, BEGIN)])).toEqual(alone);
    // The noise of the first step differs, although the oracle leads to the same picture.
    const first = async (seed: number) => {
      const model = new PerfectModel(LIMITS, noisy);
      await run(model, [prompt(5, BEGIN)], { ...options, seed });
      return Array.from(model.calls.find(({ latent }) => latent !== undefined)!.latent!);
    };
    expect(await first(3)).toEqual(await first(3));
    expect(await first(3)).not.toEqual(await first(4));
  });

  test('visit the timesteps from the noisiest down, and the clean image comes at 0', async () => {
    const model = new PerfectModel(LIMITS, byCaption);
    await run(model, [prompt(5, BEGIN)], { images: { ...images, samplingSteps: 5, guidance: 1 } });
    const visited = model.calls.flatMap(({ timestep }) => (timestep ? Array.from(timestep) : []));
    expect(visited).toEqual([49, 39, 29, 19, 9, 0]);
  });

  test('end a sequence that has no room for them', async () => {
    const { tokens, drawn } = await run(new PerfectModel(LIMITS, byCaption), [prompt(BEGIN)], { maxTokens: 1 });
    expect([tokens, drawn]).toEqual([[[]], []]);
  });
});

describe('images in a prompt', () => {
  const before: string[] = [];
  const follows = (text: string): number => {
    before.push(text);
    return 1;
  };

  test('are read whole and clean, whatever a call takes', async () => {
    const { token, modality, latent, patchRow } = latentDocument(['12', 2, '3', 2], 1);
    const document = { token, modality, latent, patchRow: patchRow! };
    const texts: string[] = [];
    for (const tokens of [3, 4, 16]) {
      before.length = 0;
      const model = new PerfectModel({ ...LIMITS, tokens }, byCaption, follows);
      await run(model, [document], { maxTokens: 1, images: { ...images, guidance: 1 } });
      texts.push(before.at(-1)!);
    }
    expect(texts[0]).toBe(`0 5 6 2 [1] [4] 3 7 2 [7] [10] 3 1`);
    expect(new Set(texts).size).toBe(1);
  });

  test('of more patches than a call takes are refused', async () => {
    const model = new PerfectModel({ ...LIMITS, tokens: 3 }, byCaption);
    await expect(run(model, [latentDocument([4])], { images: { ...images, guidance: 1 } })).rejects.toMatchObject({
      code: 'ERR_LIMIT',
    });
  });
});

describe('limits and options', () => {
  test('guided images need their slots and tokens', async () => {
    expect([guidanceSlots(images), guidanceSlots({ ...images, guidance: 1 })]).toEqual([4, 0]);
    const slots = 3 + PATCHES + guidanceSlots(images);
    const options = { maxTokens: PATCHES };
    const draw = (limits: typeof LIMITS) => run(new PerfectModel(limits, byCaption), [prompt(5, BEGIN)], options);
    expect((await draw({ ...LIMITS, kv_slots: slots })).drawn).toHaveLength(1);
    await expect(draw({ ...LIMITS, kv_slots: slots - 1 })).rejects.toMatchObject({ code: 'ERR_LIMIT' });
    await expect(draw({ ...LIMITS, tokens: 3 })).rejects.toMatchObject({ code: 'ERR_LIMIT' });
  });

  test.each([
    ['more steps than the schedule', { samplingSteps: STEPS + 1 }, /samplingSteps/],
    ['patches of another width', { modality: { ...images.modality, patchDim: 5 } }, /5 numbers wide/],
  ])('%s are refused', async (_, change, message) => {
    const refused = run(new PerfectModel(LIMITS, byCaption), [prompt(5)], { images: { ...images, ...change } });
    await expect(refused).rejects.toMatchObject({ code: 'ERR_ARGUMENT', message: expect.stringMatching(message) });
  });

  test('a model without diffusion draws none', async () => {
    const model = new PerfectModel(LIMITS, byCaption);
    Object.assign(model.config, { diffusion: undefined });
    await expect(run(model, [prompt(5)])).rejects.toThrow(/no diffusion/);
  });
});
