import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Loader, batchesOf } from '../../lib/data/loader.js';
import { joinDocuments, packDocuments, Packer, type CountedBatch } from '../../lib/data/packer.js';
import type { Batch } from '../../lib/model/batch.js';

/** Document n has the tokens n * 100, n * 100 + 1, ... and modalities that differ from one to the next. */
function makeDocuments(lengths: readonly number[]): { token: Int32Array; modality: Uint8Array }[] {
  return lengths.map((length, n) => ({
    token: Int32Array.from({ length }, (_, i) => n * 100 + i),
    modality: Uint8Array.from({ length }, (_, i) => (n + i) % 3),
  }));
}

function sourceOf(documents: { token: Int32Array; modality: Uint8Array }[]) {
  return { documents: documents.length, read: (i: number) => documents[i]!, close() {} };
}

/** The documents of a batch, by the places where positions restart. */
function unpack(batch: Batch): { token: number[]; modality: number[] }[] {
  const documents: { token: number[]; modality: number[] }[] = [];
  for (let i = 0; i < batch.token.length; i++) {
    if (batch.position[i] === 0) documents.push({ token: [], modality: [] });
    documents.at(-1)!.token.push(batch.token[i]!);
    documents.at(-1)!.modality.push(batch.modality[i]!);
  }
  return documents;
}

/** The rules that native code demands of a batch, and those of the packer. */
function checkBatch(batch: Batch, window: number): void {
  const { token, position, kvStart, kvEnd, target, targetModality, modality } = batch;
  let begin = 0;
  for (let i = 0; i < token.length; i++) {
    if (position[i] === 0) begin = i;
    expect(position[i]).toBe(i - begin);
    expect(kvStart[i]).toBe(Math.max(begin, i + 1 - window));
    expect(kvEnd[i]).toBe(i + 1);
    if (i > 0) expect(kvStart[i]).toBeGreaterThanOrEqual(kvStart[i - 1]!);
    const last = i + 1 === token.length || position[i + 1] === 0;
    expect(target![i]).toBe(last ? -1 : token[i + 1]);
    if (!last) expect(targetModality![i]).toBe(modality[i + 1]);
  }
}

async function collect(batches: AsyncIterable<CountedBatch>): Promise<CountedBatch[]> {
  const all: CountedBatch[] = [];
  for await (const batch of batches) all.push(batch);
  return all;
}

const lengths = fc.array(fc.integer({ min: 1, max: 32 }), { minLength: 1, maxLength: 60 });
const shape = fc.constantFrom(
  { sequences: 1, microSequences: 1 },
  { sequences: 4, microSequences: 4 },
  { sequences: 4, microSequences: 2 },
  { sequences: 6, microSequences: 2 },
);

describe('joinDocuments', () => {
  test('a hand-made batch of two documents', () => {
    const batch = joinDocuments([
      { token: [5, 6, 7], modality: [0, 1, 1] },
      { token: [8, 9], modality: [2, 0] },
    ]);
    expect(Array.from(batch.token)).toEqual([5, 6, 7, 8, 9]);
    expect(Array.from(batch.modality)).toEqual([0, 1, 1, 2, 0]);
    expect(Array.from(batch.position)).toEqual([0, 1, 2, 0, 1]);
    expect(Array.from(batch.kvStart)).toEqual([0, 0, 0, 3, 3]);
    expect(Array.from(batch.kvEnd)).toEqual([1, 2, 3, 4, 5]);
    expect(Array.from(batch.target!)).toEqual([6, 7, -1, 9, -1]);
    expect(Array.from(batch.targetModality!)).toEqual([1, 1, 0, 0, 0]);
  });

  test('a sliding window raises kvStart inside a document only', () => {
    const batch = joinDocuments(makeDocuments([4, 3]), 2);
    expect(Array.from(batch.kvStart)).toEqual([0, 0, 1, 2, 4, 4, 5]);
  });
});

describe('packing', () => {
  test('cuts, loses and repeats no document, keeps the limits, and counts', async () => {
    await fc.assert(
      fc.asyncProperty(
        lengths,
        shape,
        fc.integer({ min: 1, max: 40 }),
        async (sizes, { sequences, microSequences }, window) => {
          const documents = makeDocuments(sizes);
          const options = { sequences, microSequences, seqLen: 32, window };
          const batches = await collect(packDocuments(documents, options));
          let taken = 0;
          for (const { microBatches, cursor } of batches) {
            const found = microBatches.flatMap((batch) => unpack(batch));
            const expected = documents.slice(taken, cursor).map(({ token, modality }) => ({
              token: Array.from(token),
              modality: Array.from(modality),
            }));
            const byFirst = (a: { token: number[] }, b: { token: number[] }): number => a.token[0]! - b.token[0]!;
            expect(found.sort(byFirst)).toEqual(expected.sort(byFirst));
            expect(microBatches.length).toBeLessThanOrEqual(sequences / microSequences);
            for (const batch of microBatches) {
              expect(batch.token.length).toBeLessThanOrEqual(microSequences * 32);
              checkBatch(batch, window);
            }
            taken = cursor;
          }
          expect(taken).toBe(documents.length);
        },
      ),
      { numRuns: 80 },
    );
  });

  test('a batch is closed only by a document that no sequence has room for', () => {
    const packer = new Packer({ sequences: 2, seqLen: 10 });
    const [a, b, c, d] = makeDocuments([8, 6, 4, 3]);
    expect([a, b, c, d].map((document) => packer.add(document!))).toEqual([true, true, true, false]);
    const { microBatches, documents } = packer.finish();
    expect(documents).toBe(3);
    expect(unpack(microBatches[0]!).map(({ token }) => token[0])).toEqual([0, 100, 200]);
    expect(packer.add(d!)).toBe(true);
  });

  test('takes asynchronous iterators, and none gives no batch', async () => {
    async function* documents() {
      yield* makeDocuments([3, 4]);
    }
    expect(await collect(packDocuments(documents(), { sequences: 1, seqLen: 8 }))).toHaveLength(1);
    expect(await collect(packDocuments([], { sequences: 1, seqLen: 8 }))).toHaveLength(0);
  });

  test('rejects documents that are empty, too long or uneven', () => {
    const packer = new Packer({ sequences: 1, seqLen: 4 });
    for (const document of [
      { token: [], modality: [] },
      { token: [1, 2, 3, 4, 5], modality: [0, 0, 0, 0, 0] },
      { token: [1, 2], modality: [0] },
    ])
      expect(() => packer.add(document)).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
  });

  test.each([
    { sequences: 0, seqLen: 4 },
    { sequences: 3, seqLen: 4, microSequences: 2 },
    { sequences: 2, seqLen: 1.5 },
    { sequences: 2, seqLen: 4, window: 0 },
  ])('rejects %p', (options) => {
    expect(() => new Packer(options)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
  });
});

describe('Loader', () => {
  const documents = makeDocuments(Array.from({ length: 40 }, (_, i) => 1 + ((i * 7) % 20)));
  const options = { sequences: 4, seqLen: 24, microSequences: 2, seed: 3 };

  test('every epoch is all documents once, in an order of its own', () => {
    const loader = new Loader(sourceOf(documents), options);
    const epoch = (n: number): number[] => documents.map((_, i) => loader.documentAt(n * documents.length + i));
    expect([...epoch(0)].sort((a, b) => a - b)).toEqual(documents.map((_, i) => i));
    expect([...epoch(1)].sort((a, b) => a - b)).toEqual(documents.map((_, i) => i));
    expect(epoch(0)).not.toEqual(epoch(1));
    expect(epoch(0)).not.toEqual(documents.map((_, i) => i));
  });

  test('goes on from any cursor with the same batches', async () => {
    const whole: CountedBatch[] = [];
    for await (const batch of new Loader(sourceOf(documents), options).batches()) {
      whole.push(batch);
      if (whole.length === 30) break;
    }
    expect(whole.at(-1)!.cursor).toBeGreaterThan(2 * documents.length);
    for (const [i, { cursor }] of whole.entries()) {
      if (i + 1 === whole.length) break;
      expect(new Loader(sourceOf(documents), options).batchAt(cursor)).toEqual(whole[i + 1]);
    }
  });

  test("the order depends on the seed; without shuffling it is the source's", () => {
    const first = (seed: number): CountedBatch => new Loader(sourceOf(documents), { ...options, seed }).batchAt(0);
    expect(first(1)).not.toEqual(first(2));
    const plain = new Loader(sourceOf(documents), { ...options, shuffle: false });
    expect([0, 1, 39, 40].map((cursor) => plain.documentAt(cursor))).toEqual([0, 1, 39, 0]);
  });

  test('batchesOf gives the first documents once', () => {
    const batches = batchesOf(sourceOf(documents), { sequences: 2, seqLen: 24 }, 15);
    const found = batches.flatMap((batch) => unpack(batch)).map(({ token }) => token[0]! / 100);
    expect(found.sort((a, b) => a - b)).toEqual(Array.from({ length: 15 }, (_, i) => i));
    expect(batchesOf(sourceOf([]), { sequences: 2, seqLen: 24 })).toEqual([]);
  });

  test('rejects an empty source and bad cursors', () => {
    expect(() => new Loader(sourceOf([]), options)).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
    const loader = new Loader(sourceOf(documents), options);
    expect(() => loader.batchAt(-1)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
    const long = makeDocuments([30]);
    expect(() => new Loader(sourceOf(long), options).batchAt(0)).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
  });
});
