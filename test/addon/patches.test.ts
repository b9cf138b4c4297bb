import { describe, expect, test } from '@jest/globals';
import type { Batch } from '../../lib/model/batch.js';
import { Model } from '../../lib/model/model.js';
import { poolLosses } from '../../lib/train/evaluate.js';
import { makeBatch, PATCH_DIM, TINY, withImage } from './tiny_model.js';

const P = PATCH_DIM;
const CONFIG = { ...TINY, diffusion: { patch_dim: P } };

test('a step reports the diffusion loss over the images of all micro-batches', async () => {
  await using model = await Model.create(CONFIG, { tokens: 16 });
  const batches = [withImage(3, 8), withImage(5, 1), makeBatch(16)];
  const alone = [await model.evaluate(batches[0]!), await model.evaluate(batches[1]!)];
  const all = await model.step(batches, { lr: 1e-3, step: 1 });
  expect(all.imageCount).toBe(2);
  expect(all.diffusionSum).toBeCloseTo(alone[0]!.diffusionSum + alone[1]!.diffusionSum, 6);
  expect(all.loss).toBeCloseTo(all.lmLoss + (5 * all.diffusionSum) / 2, 6);
  expect(poolLosses(alone, ['text', 'image']).diffusionLoss).toBeCloseTo(all.diffusionSum / 2, 6);
  expect(poolLosses([await model.evaluate(makeBatch(16))], ['text', 'image'])).not.toHaveProperty('diffusionLoss');
});

test('a diffusion loop over cached slots predicts what the forward pass does', async () => {
  await using model = await Model.create(CONFIG, { tokens: 16, kv_slots: 16 });
  const { target: _, targetModality: __, noise: ___, ...batch } = withImage(4, 6);
  const part = (begin: number, end: number): Batch & { slot: Int32Array } => ({
    ...batch,
    token: batch.token.slice(begin, end),
    modality: batch.modality.slice(begin, end),
    position: batch.position.slice(begin, end),
    kvStart: batch.kvStart.slice(begin, end),
    kvEnd: batch.kvEnd.slice(begin, end),
    patchRow: batch.patchRow.slice(begin, end),
    slot: Int32Array.from({ length: end - begin }, (_, i) => begin + i),
  });
  await model.decode(part(0, 4), new Int32Array(0));
  for (const timestep of [900, 0]) {
    batch.timestep = Int32Array.of(timestep);
    const noise = await model.decode(part(4, 10), Int32Array.of(0, 5), { output: 'patches' });
    const expected = await model.forward(batch, Int32Array.of(4, 9), 'patches');
    expect(noise).toHaveLength(2 * P);
    noise.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));
  }
});

describe('patches that do not fit are refused before anything is computed', () => {
  const good = withImage(3, 4);
  const { latent, patchRow: _, imageOfRow: __, ...without } = good;
  test.each<[string, Batch, RegExp]>([
    ['latents of another width', { ...good, latent: new Float32Array(4 * 5) }, /latent to have 4 x 6 numbers.*got 20/],
    ['noise of another width', { ...good, noise: new Float32Array(4 * 7) }, /noise to have 4 x 6 numbers.*got 28/],
    ['latents alone', { ...without, latent }, /patchRow together with latent/],
    ['too few patchRow', { ...good, patchRow: new Int32Array(3) }, /patchRow to have 16 entries/],
    ['timestep', { ...good, timestep: Int32Array.of(1000) }, /timestep\[0\] from 0 to 999, got 1000/],
    ['image', { ...good, imageOfRow: Int32Array.of(0, 0, 0, 1) }, /image_of_row\[3\] from 0 to 0, got 1/],
    ['modality', { ...good, modality: new Int32Array(16) }, /modality\[3\] to be 1/],
  ])('%s', async (_name, batch, message) => {
    await using model = await Model.create(CONFIG, { tokens: 16 });
    await expect(model.evaluate(batch)).rejects.toMatchObject({
      code: 'ERR_BATCH',
      message: expect.stringMatching(message),
    });
  });

  test('a model without diffusion takes no patches and predicts no noise', async () => {
    await using model = await Model.create(TINY, { tokens: 16 });
    await expect(model.evaluate(good)).rejects.toMatchObject({ code: 'ERR_BATCH' });
    await expect(model.forward(makeBatch(16), Int32Array.of(0), 'patches')).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
    });
  });
});
