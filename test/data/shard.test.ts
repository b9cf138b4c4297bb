import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ShardSource, ShardWriter } from '../../lib/data/shard.js';
import { writeSafetensors } from '../../lib/io/safetensors.js';
import { makeVocabulary, modalityOfToken } from '../../lib/modalities/vocabulary.js';

const vocabulary = makeVocabulary([
  ['text', 20],
  ['image', 10],
]);
const documents = [5, 1, 9, 4, 30, 2].map((length, n) => {
  const token = Int32Array.from({ length }, (_, i) => (7 * n + 3 * i) % vocabulary.size);
  return { token, modality: Uint8Array.from(token, (id) => modalityOfToken(vocabulary, id)) };
});

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'mot-shards-'))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function write(shardTokens?: number) {
  const writer = new ShardWriter(folder, 'train', vocabulary, shardTokens);
  for (const document of documents) await writer.add(document);
  return { split: await writer.finish(), longest: writer.longest };
}

describe('shards', () => {
  test.each([undefined, 10, 1])('give back every document (shards of %p tokens)', async (shardTokens) => {
    const { split, longest } = await write(shardTokens);
    expect(split.shards.length).toBe(shardTokens === undefined ? 1 : shardTokens === 10 ? 5 : 6);
    expect(longest).toBe(30);
    expect(split.documents).toBe(6);
    expect(split.tokens).toBe(51);
    const predicted = documents.flatMap(({ modality }) => Array.from(modality.subarray(1)));
    expect(split.targets).toEqual({
      text: predicted.filter((m) => m === 0).length,
      image: predicted.filter((m) => m === 1).length,
    });
    const source = await ShardSource.open(folder, split, vocabulary);
    try {
      expect(source.documents).toBe(6);
      for (const i of [3, 0, 5, 4, 1, 2]) expect(source.read(i)).toEqual(documents[i]);
      expect(() => source.read(6)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
    } finally {
      source.close();
    }
  });

  test('an empty split has no shards', async () => {
    const split = await new ShardWriter(folder, 'heldout', vocabulary).finish();
    expect(split).toMatchObject({ shards: [], documents: 0, tokens: 0 });
    expect((await ShardSource.open(folder, split, vocabulary)).documents).toBe(0);
  });

  test('are refused when they are missing or not what the split says', async () => {
    const { split } = await write();
    const open = (changes: object) =>
      ShardSource.open(folder, { ...split, shards: [{ ...split.shards[0]!, ...changes }] }, vocabulary);
    await expect(open({ file: 'none.safetensors' })).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    await expect(open({ tokens: 50 })).rejects.toMatchObject({ code: 'ERR_DATA' });
    await expect(open({ documents: 5 })).rejects.toMatchObject({ code: 'ERR_DATA' });
  });

  const tensors = {
    token: Int32Array.of(6, 7, 8),
    modality: new Uint8Array(3),
    document: BigInt64Array.of(0n, 2n, 3n),
  };
  const split = (documents: number) => ({
    shards: [{ file: 'bad.safetensors', documents, tokens: 3 }],
    documents,
    tokens: 3,
    targets: {},
  });

  test.each([
    [0n, 3n, 2n],
    [0n, 2n, 2n],
    [1n, 2n, 3n],
    [0n, 2n, 4n],
  ])('are refused when offsets are %p %p %p', async (...offsets) => {
    await writeSafetensors(join(folder, 'bad.safetensors'), { ...tensors, document: BigInt64Array.from(offsets) });
    await expect(ShardSource.open(folder, split(2), vocabulary)).rejects.toMatchObject({ code: 'ERR_DATA' });
  });

  test.each([
    ['token out of range', { token: Int32Array.of(6, vocabulary.size, 8) }],
    ['negative token', { token: Int32Array.of(6, -1, 8) }],
    ['modality of another range', { modality: Uint8Array.of(0, 1, 0) }],
  ])('refuse a document with a %s', async (_, changes) => {
    await writeSafetensors(join(folder, 'bad.safetensors'), { ...tensors, ...changes });
    const source = await ShardSource.open(folder, split(2), vocabulary);
    try {
      expect(() => source.read(0)).toThrow(expect.objectContaining({ code: 'ERR_DATA' }));
      expect(Array.from(source.read(1).token)).toEqual([8]);
    } finally {
      source.close();
    }
  });
});
