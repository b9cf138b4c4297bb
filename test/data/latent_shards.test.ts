import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSplit, readManifest, writeManifest } from '../../lib/data/manifest.js';
import { prepareEmoji } from '../../lib/data/prepare_emoji.js';
import { ShardSource, ShardWriter } from '../../lib/data/shard.js';
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js';
import { PixelCodec } from '../../lib/modalities/image/pixel_codec.js';
import {
  decodeDocument,
  encodeDocument,
  joinSpans,
  loadCodecs,
  loadTokenizers,
  splitSpans,
} from '../../lib/modalities/registry.js';
import type { Picture } from '../../lib/modalities/tokenizer.js';
import { makeVocabulary } from '../../lib/modalities/vocabulary.js';
import { captioned, latentDocument, PATCH_DIM, vocabulary } from './latent_documents.js';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'mot-latents-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('shards with latents', () => {
  test('give documents back as they were, across shards, with and without images', async () => {
    const documents = [latentDocument(['12']), ...captioned(9), latentDocument([1, '3', 2], 50)];
    const writer = new ShardWriter(root, 'all', vocabulary, 40);
    for (const document of documents) await writer.add(document);
    const split = await writer.finish();
    expect(split.shards.length).toBeGreaterThan(1);
    expect(split.targets['image']).toBe(0);
    using file = await SafetensorsFile.open(join(root, split.shards[0]!.file));
    expect(file.info('latent')).toMatchObject({ dtype: 'F32', shape: [expect.any(Number), PATCH_DIM] });
    expect(file.info('latent_offset')).toMatchObject({ dtype: 'I64', shape: [split.shards[0]!.documents + 1] });
    const source = await ShardSource.open(root, split, vocabulary);
    try {
      documents.forEach((document, i) => expect(source.read(i)).toEqual(document));
    } finally {
      source.close();
    }
  });

  test.each([
    ['latents of another width', { latent: { shape: [2, 2], data: new Float32Array(4) } }],
    ['fewer latents than patches', { latent_offset: BigInt64Array.of(0n, 1n, 2n) }],
    ['offsets that fall', { latent_offset: BigInt64Array.of(0n, 3n, 2n) }],
    ['no latents', { latent: Int32Array.of(1) }],
    ['latents that are not finite', { latent: { shape: [2, 3], data: new Float32Array(6).fill(NaN) } }],
  ])('refuse %s', async (_, change) => {
    const folder = mkdtempSync(join(root, 'bad-'));
    const { token, modality, latent } = latentDocument(['1', 2]);
    const good = {
      token: Int32Array.from([...Array.from(token), 0]),
      modality: Uint8Array.from([...Array.from(modality), 0]),
      document: BigInt64Array.of(0n, BigInt(token.length), BigInt(token.length + 1)),
      latent: { shape: [2, PATCH_DIM], data: latent },
      latent_offset: BigInt64Array.of(0n, 2n, 2n),
    };
    const split = {
      shards: [{ file: 'x.safetensors', documents: 2, tokens: token.length + 1 }],
      documents: 2,
      tokens: token.length + 1,
      targets: {},
    };
    const read = async (): Promise<unknown> => {
      const source = await ShardSource.open(folder, split, vocabulary);
      try {
        return source.read(0);
      } finally {
        source.close();
      }
    };
    await writeSafetensors(join(folder, 'x.safetensors'), good);
    expect(await read()).toEqual(latentDocument(['1', 2]));
    await writeSafetensors(join(folder, 'x.safetensors'), { ...good, ...change });
    await expect(read()).rejects.toMatchObject({ code: 'ERR_DATA' });
  });

  test('are not written of latents that do not fit', async () => {
    const document = latentDocument(['1', 2]);
    const writer = new ShardWriter(root, 'bad', vocabulary);
    await expect(writer.add({ ...document, latent: document.latent.slice(1) })).rejects.toMatchObject({
      code: 'ERR_DATA',
    });
    const turned = document.patchRow!.map((row) => (row < 0 ? row : 1 - row));
    await expect(writer.add({ ...document, patchRow: turned })).rejects.toMatchObject({ code: 'ERR_DATA' });
    const discrete = new ShardWriter(root, 'discrete', makeVocabulary([['text', 20]]));
    await expect(discrete.add(document)).rejects.toMatchObject({ code: 'ERR_DATA' });
  });
});

describe('spans', () => {
  test('ids of a continuous modality, latents of a discrete one and of another width are refused', () => {
    const join = (span: Parameters<typeof joinSpans>[0][number]) => () => joinSpans([span], vocabulary, true);
    expect(join({ modality: 'image', ids: [0] })).toThrow(/continuous/);
    expect(join({ modality: 'text', latent: new Float32Array(3) })).toThrow(/discrete/);
    expect(join({ modality: 'image', latent: new Float32Array(4) })).toThrow(/patches of 3/);
    expect(join({ modality: 'image', latent: new Float32Array(0) })).toThrow(/patches of 3/);
  });

  test('encoding needs a codec, decoding tokens is refused', () => {
    const picture = { width: 8, height: 8, data: new Uint8Array(192) };
    expect(() => encodeDocument([{ image: picture }], {}, vocabulary)).toThrow(/codec/);
    const { token } = latentDocument([2]);
    expect(splitSpans(token, vocabulary)).toEqual([{ modality: 'image', ids: [0, 0] }]);
    expect(() => decodeDocument(token, {}, vocabulary)).toThrow(/continuous/);
  });
});

describe('PixelCodec', () => {
  const pictures = Array.from({ length: 5 }, (_, n): Picture => {
    const data = Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => (i * 37 + n * 91 + (i % 3) * 50) % 256);
    return { width: 8, height: 8, data };
  });
  const codec = PixelCodec.fit(pictures, { pictureSize: 8, patchSize: 4 });

  test('gives pictures back to the byte', () => {
    expect([codec.patches, codec.patchDim]).toEqual([4, 48]);
    for (const picture of pictures) expect(codec.decode(codec.encode(picture))).toEqual(picture);
    const black = { width: 8, height: 8, data: new Uint8Array(192) };
    expect(codec.decode(codec.encode(black))).toEqual(black);
  });

  test('each channel has mean 0 and standard deviation 1, and bytes stay in range', () => {
    const values = pictures.flatMap((picture) => Array.from(codec.encode(picture)));
    for (let c = 0; c < 3; c++) {
      const channel = values.filter((_, i) => i % 3 === c);
      const mean = channel.reduce((sum, x) => sum + x, 0) / channel.length;
      const square = channel.reduce((sum, x) => sum + x * x, 0) / channel.length;
      expect(mean).toBeCloseTo(0, 5);
      expect(square).toBeCloseTo(1, 5);
    }
    expect(Math.min(...values)).toBeGreaterThanOrEqual(codec.range[0] - 1e-6);
    expect(Math.max(...values)).toBeLessThanOrEqual(codec.range[1] + 1e-6);
  });

  test('is read back from its tensors, and values out of range are clamped', () => {
    const again = PixelCodec.fromTensors(codec.toTensors());
    expect(again.encode(pictures[1]!)).toEqual(codec.encode(pictures[1]!));
    expect(new Set(codec.decode(new Float32Array(192).fill(1e6)).data)).toEqual(new Set([255]));
  });

  test('refuses pictures of another size and latents of another length', () => {
    expect(() => codec.encode({ width: 4, height: 4, data: new Uint8Array(48) })).toThrow(/8x8/);
    expect(() => codec.decode(new Float32Array(5))).toThrow(/192/);
    expect(() => PixelCodec.fit([])).toThrow(/picture/);
  });
});

describe('mot prepare emoji with latents', () => {
  test('makes text and pictures, captions first in their share, pictures to the byte', async () => {
    const options = {
      concepts: 30,
      heldout: 0.2,
      documents: 300,
      validation_documents: 20,
      heldout_documents: 10,
      text_vocabulary: 300,
      latents: { patch_size: 8, caption_first: 0.7 },
    };
    const { folder, manifest } = await prepareEmoji(options, { out: join(root, 'emoji'), threads: 1 });
    const { vocabulary: words } = manifest;
    expect(words.modalities).toEqual(['text', 'image']);
    expect(words.continuous).toEqual({ image: 192 });
    expect(Object.keys(await loadTokenizers(folder, manifest))).toEqual(['text']);
    expect(Object.keys(manifest.baselines.validation)).toEqual(['text']);
    const codecs = await loadCodecs(folder, manifest);
    using examples = await SafetensorsFile.open(join(folder, 'examples.safetensors'));
    const data = examples.read(`${manifest.examples[0]!.name}.picture`) as Uint8Array;
    const codec = codecs['image']!;
    expect(codec.decode(codec.encode({ width: 32, height: 32, data }))).toEqual({ width: 32, height: 32, data });

    const source = await openSplit(folder, manifest, 'train');
    const backgrounds = new Set<string>();
    let first = 0;
    let images = 0;
    try {
      for (let i = 0; i < source.documents; i++) {
        const { token, latent } = source.read(i);
        const spans = splitSpans(token, words);
        if (spans.length === 1) continue;
        expect(spans).toHaveLength(2);
        images++;
        if (spans[0]!.modality === 'text') first++;
        const picture = codec.decode(latent!) as Picture;
        backgrounds.add(picture.data.subarray(0, 3).join());
      }
    } finally {
      source.close();
    }
    expect(Math.abs(first / images - 0.7)).toBeLessThan(0.09);
    expect(backgrounds.size).toBeGreaterThanOrEqual(8);

    // A manifest that says otherwise than its files.
    writeManifest(folder, { ...manifest, vocabulary: { ...words, continuous: { image: 48 } } });
    await expect(loadCodecs(folder, readManifest(folder))).rejects.toMatchObject({ code: 'ERR_DATA' });
    await expect(openSplit(folder, readManifest(folder), 'train')).rejects.toMatchObject({ code: 'ERR_DATA' });
    writeManifest(folder, { ...manifest, vocabulary: { ...words, continuous: { text: 48 } } });
    expect(() => readManifest(folder)).toThrow(expect.objectContaining({ code: 'ERR_FILE_FORMAT' }));
  }, 60_000);
});
