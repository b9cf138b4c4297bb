import { describe, expect, test } from '@jest/globals';
import { Loader, batchesOf } from '../../lib/data/loader.js';
import { trainingNoise, validationNoise } from '../../lib/data/noise.js';
import { joinDocuments, Packer } from '../../lib/data/packer.js';
import type { Batch, Document } from '../../lib/model/batch.js';
import { randomKey, randomNormals } from '../../lib/modalities/random.js';
import { captioned, latentDocument, PATCH_DIM, vocabulary } from './latent_documents.js';

const sourceOf = (documents: ReturnType<typeof captioned>) => ({
  documents: documents.length,
  read: (i: number) => documents[i]!,
  close() {},
});
const list = (values: ArrayLike<number> | undefined): number[] => Array.from(values!);

describe('packing documents with latents', () => {
  // <bos> 4 5 <image> p p </image> <eos>, then <bos> <image> p </image> 6 <image> p p </image> <eos>
  const documents = [latentDocument(['01', 2]), latentDocument([1, '2', 2], 100)];
  const batch = joinDocuments(documents);

  test('a patch sees its whole image, all else what comes before', () => {
    expect(list(batch.kvStart)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]);
    expect(list(batch.kvEnd)).toEqual([1, 2, 3, 4, 6, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 16, 17, 18]);
  });

  test('with a causal mask a patch sees none behind it', () => {
    const causal = joinDocuments(documents, Infinity, 'causal');
    expect(list(causal.kvEnd)).toEqual(list(causal.token).map((_, i) => i + 1));
    expect({ ...causal, kvEnd: 0 }).toEqual({ ...batch, kvEnd: 0 });
  });

  test('a window is not raised inside an image', () => {
    const windowed = joinDocuments(documents.slice(0, 1), 3);
    expect(list(windowed.kvStart)).toEqual([0, 0, 0, 1, 2, 2, 4, 5]);
    expect(list(windowed.kvEnd)).toEqual([1, 2, 3, 4, 6, 6, 7, 8]);
  });

  test('nothing is predicted at patches, nor where the input begins an image', () => {
    expect(list(batch.target)).toEqual([4, 5, 2, -1, -1, -1, 1, -1, 2, -1, -1, 6, 2, -1, -1, -1, 1, -1]);
    batch.target!.forEach((target, i) => {
      if (target >= 0) expect(batch.kvEnd[i]).toBe(i + 1);
    });
  });

  test('rows, images and latents are those of the documents, in order', () => {
    expect(list(batch.patchRow)).toEqual([-1, -1, -1, -1, 0, 1, -1, -1, -1, -1, 2, -1, -1, -1, 3, 4, -1, -1]);
    expect(list(batch.imageOfRow)).toEqual([0, 0, 1, 2, 2]);
    expect(list(batch.latent)).toEqual([0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105, 106, 107, 108]);
    expect(list(batch.timestep)).toEqual([0, 0, 0]);
    expect(batch.noise).toBeUndefined();
  });

  test('noise and timesteps go with their images', () => {
    const noised = documents.map((document, i) => ({
      ...document,
      noise: document.latent.map((x) => -x),
      timestep: Int32Array.from(i === 0 ? [7] : [8, 9]),
    }));
    const { noise, timestep, latent } = joinDocuments(noised);
    expect(list(timestep)).toEqual([7, 8, 9]);
    expect(list(noise)).toEqual(list(latent).map((x) => -x));
    expect(() => joinDocuments([noised[0]!, documents[1]!])).toThrow(/noise/);
  });

  test('a batch without images has no latents, beside others a document has none', () => {
    const text = latentDocument(['12']);
    expect(joinDocuments([text])).not.toHaveProperty('patchRow');
    expect(list(joinDocuments([text, documents[0]!, text]).patchRow)).toEqual(
      [-1, -1, -1, -1].concat(list(documents[0]!.patchRow), [-1, -1, -1, -1]),
    );
    expect(joinDocuments([{ token: [1], modality: [0] }])).not.toHaveProperty('patchRow');
  });

  test.each<[string, (document: Document) => Partial<Document>]>([
    ['no rows', () => ({ patchRow: undefined as unknown as Int32Array })],
    ['a row twice', ({ patchRow }) => ({ patchRow: patchRow!.map((row) => Math.min(row, 0)) })],
    ['latents of other width', ({ latent }) => ({ latent: latent!.slice(1) })],
    ['less noise', ({ latent }) => ({ noise: latent!.slice(1) })],
    ['two timesteps', () => ({ timestep: new Int32Array(2) })],
  ])('refuses %s', (_, change) => {
    const document = documents[0]!;
    const packer = new Packer({ sequences: 1, seqLen: 16 });
    expect(() => packer.add({ ...document, ...change(document) })).toThrow(
      expect.objectContaining({ code: 'ERR_DATA' }),
    );
  });
});

describe('trainingNoise', () => {
  const documents = captioned(400);
  const noiseOf = (options: Partial<Parameters<typeof trainingNoise>[1]> = {}) =>
    trainingNoise(vocabulary, { steps: 1000, seed: 5, captionDropout: 0, ...options });

  test('is standard normal, and timesteps are uniform', () => {
    const transform = noiseOf();
    const noised = [0, 1, 2, 3, 4].flatMap((epoch) => documents.map((document, i) => transform(document, i, epoch)));
    const noise = noised.flatMap((document) => list(document.noise));
    const moment = (power: number): number => noise.reduce((sum, x) => sum + x ** power, 0) / noise.length;
    expect(noise.length).toBe(5 * 400 * 2 * PATCH_DIM);
    expect(Math.abs(moment(1))).toBeLessThan(0.03);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.05);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.4);
    const timesteps = noised.flatMap((document) => list(document.timestep));
    for (let tenth = 0; tenth < 10; tenth++) {
      const share = timesteps.filter((t) => Math.floor(t / 100) === tenth).length / timesteps.length;
      expect(Math.abs(share - 0.1)).toBeLessThan(0.03);
    }
    expect(Math.min(...timesteps)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...timesteps)).toBeLessThan(1000);
    expect(new Set(noise).size).toBeGreaterThan(0.999 * noise.length);
  });

  test('follows from seed, document and epoch alone', () => {
    const a = noiseOf()(documents[7]!, 7, 1);
    noiseOf()(documents[3]!, 3, 0);
    expect(noiseOf()(documents[7]!, 7, 1)).toEqual(a);
    for (const other of [
      noiseOf({ seed: 6 })(documents[7]!, 7, 1),
      noiseOf()(documents[7]!, 8, 1),
      noiseOf()(documents[7]!, 7, 2),
    ])
      expect(other.noise).not.toEqual(a.noise);
  });

  test('a cap holds for images before their caption only, and for no dropped caption', () => {
    for (const captionDropout of [0, 1]) {
      const transform = noiseOf({ maxTimestepImageFirst: 50, captionDropout });
      const highest = (imageFirst: boolean): number =>
        Math.max(
          ...documents.flatMap((document, i) =>
            (i % 4 === 3) === imageFirst ? list(transform(document, i, 0).timestep) : [],
          ),
        );
      expect(highest(true)).toBeLessThanOrEqual(50);
      expect(highest(true)).toBeGreaterThan(40);
      expect(highest(false)).toBeGreaterThan(950);
    }
  });

  test('drops captions in front of images, in their share, and keeps the rest', () => {
    const transform = noiseOf({ captionDropout: 0.3 });
    let dropped = 0;
    documents.forEach((document, i) => {
      const { token, modality, patchRow, latent } = transform(document, i, 0);
      expect(latent).toBe(document.latent);
      if (token.length === document.token.length) return;
      dropped++;
      expect(i % 4).not.toBe(3);
      expect(list(token)).toEqual([0, 2, 12, 12, 3, 1]);
      expect(list(modality)).toEqual([0, 0, 1, 1, 0, 0]);
      expect(list(patchRow)).toEqual([-1, -1, 0, 1, -1, -1]);
    });
    expect(Math.abs(dropped / 300 - 0.3)).toBeLessThan(0.08);
    const batch = joinDocuments([transform(documents[0]!, 0, 0)]);
    expect(batch.timestep).toHaveLength(1);
  });

  test('refuses timesteps and shares out of range', () => {
    for (const options of [
      { maxTimestepImageFirst: 1000 },
      { maxTimestepImageFirst: -1 },
      { steps: 0 },
      { captionDropout: 2 },
    ])
      expect(() => noiseOf(options)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });
});

test('validation noise is the same every time, its timesteps spread evenly, its captions all there', () => {
  const documents = captioned(64);
  const batches = (): Batch[] =>
    batchesOf(sourceOf(documents), { sequences: 4, seqLen: 64, transform: validationNoise({ steps: 64 }) });
  expect(batches()).toEqual(batches());
  const timesteps = batches().flatMap(({ timestep }) => list(timestep));
  expect(timesteps).toHaveLength(64);
  for (let quarter = 0; quarter < 4; quarter++) {
    const count = timesteps.filter((t) => Math.floor(t / 16) === quarter).length;
    expect(Math.abs(count - 16)).toBeLessThanOrEqual(2);
  }
  const tokens = batches().reduce((sum, { token }) => sum + token.length, 0);
  expect(tokens).toBe(documents.reduce((sum, { token }) => sum + token.length, 0));
});

describe('a loader of noised documents', () => {
  const documents = captioned(40);
  const make = (micro: number): Loader =>
    new Loader(sourceOf(documents), {
      sequences: 4,
      microSequences: micro,
      seqLen: 32,
      seed: 2,
      transform: trainingNoise(vocabulary, { steps: 100, seed: 2 }),
    });

  test('goes on from any cursor with the same batches, noise included, into the next epochs', () => {
    const loader = make(4);
    for (let cursor = 0, i = 0; i < 12; i++) {
      const batch = loader.batchAt(cursor);
      expect(make(4).batchAt(cursor)).toEqual(batch);
      cursor = batch.cursor;
      if (i === 11) expect(cursor).toBeGreaterThan(2 * documents.length);
    }
  });

  test('gives the same noise whatever the micro-batches', () => {
    const whole = make(4).batchAt(20);
    const parts = make(1).batchAt(20);
    expect(parts.cursor).toBe(whole.cursor);
    expect(parts.microBatches.flatMap(({ noise }) => list(noise))).toEqual(list(whole.microBatches[0]!.noise));
    expect(parts.microBatches.flatMap(({ timestep }) => list(timestep))).toEqual(list(whole.microBatches[0]!.timestep));
  });

  test('noises a document anew in each epoch', () => {
    const transform = trainingNoise(vocabulary, { steps: 100, captionDropout: 0 });
    expect(transform(documents[0]!, 0, 0).timestep).not.toEqual(transform(documents[0]!, 0, 3).timestep);
  });
});

test('normal draws do not depend on how many are taken', () => {
  const key = randomKey(1, 'test');
  const long = new Float32Array(11);
  randomNormals(key, [4, 5], long);
  for (const length of [1, 2, 3, 5, 8]) {
    const short = new Float32Array(length);
    randomNormals(key, [4, 5], short);
    expect(short).toEqual(long.slice(0, length));
  }
  const other = new Float32Array(11);
  for (const counters of [
    [5, 5],
    [4, 6],
    [4, 5, 1],
  ]) {
    randomNormals(key, counters, other);
    expect(other).not.toEqual(long);
  }
});
