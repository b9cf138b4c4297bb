import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EmojiOptionsInput } from '../../lib/data/emoji/options.js';
import { openSplit } from '../../lib/data/manifest.js';
import { BaselineFitter } from '../../lib/data/ngram_baselines.js';
import { prepareEmoji, type PreparedDataset } from '../../lib/data/prepare_emoji.js';
import { SafetensorsFile } from '../../lib/io/safetensors.js';
import { decodeDocument, loadTokenizers } from '../../lib/modalities/registry.js';

const options: EmojiOptionsInput = {
  concepts: 30,
  spoken: 8,
  heldout: 0.2,
  documents: 120,
  validation_documents: 30,
  heldout_documents: 20,
  text_vocabulary: 400,
  image_codes: 32,
  speech_units: 40,
};

let root: string;
let prepared: PreparedDataset;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'mot-emoji-'));
  prepared = await prepareEmoji(options, { out: join(root, 'a'), threads: 2 });
}, 120_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

const hashes = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((file) => [
        file,
        createHash('sha256')
          .update(readFileSync(join(folder, file)))
          .digest('hex'),
      ]),
  );

describe('mot prepare emoji', () => {
  test('leaves whole splits that decode to what they were made of', async () => {
    const { folder, manifest, cached } = prepared;
    expect(cached).toBe(false);
    const { splits, vocabulary } = manifest;
    expect([splits.train.documents, splits.validation.documents, splits.heldout.documents]).toEqual([120, 30, 20]);
    expect(vocabulary.modalities).toEqual(['text', 'image', 'speech']);
    const tokenizers = await loadTokenizers(folder, manifest);
    const source = await openSplit(folder, manifest, 'train');
    try {
      const kinds = new Set<string>();
      for (let i = 0; i < source.documents; i++) {
        const segments = decodeDocument(source.read(i).token, tokenizers, vocabulary);
        kinds.add(segments.map((segment) => Object.keys(segment)[0]).join(' '));
        for (const segment of segments)
          if ('text' in segment)
            expect(segment.text).toMatch(/ on (red|orange|yellow|green|blue|purple|white|black)\b|^on |: /);
          else if ('image' in segment) expect(segment.image.data.length).toBe(32 * 32 * 3);
      }
      expect(kinds.has('text image') && kinds.has('image text')).toBe(true);
      expect([...kinds].some((kind) => kind.includes('speech'))).toBe(true);
    } finally {
      source.close();
    }
  });

  test('counts targets of each modality and gives lines to beat, the bigram lower than the unigram', async () => {
    const { folder, manifest } = prepared;
    const fitter = new BaselineFitter(manifest.vocabulary.size, manifest.vocabulary.modalities);
    const train = await openSplit(folder, manifest, 'train');
    const validation = await openSplit(folder, manifest, 'validation');
    const all = (source: typeof train) => Array.from({ length: source.documents }, (_, i) => source.read(i));
    for (const document of all(train)) fitter.add(document);
    expect(fitter.finish()(all(validation))).toEqual(manifest.baselines.validation);
    for (const [modality, { unigram, bigram }] of Object.entries(manifest.baselines.validation)) {
      expect(bigram).toBeLessThan(unigram);
      const targets = all(validation).flatMap((document) => Array.from(document.modality.subarray(1)));
      const index = manifest.vocabulary.modalities.indexOf(modality);
      expect(manifest.splits.validation.targets[modality]).toBe(targets.filter((m) => m === index).length);
    }
    expect(manifest.longestDocument).toBeGreaterThanOrEqual(Math.max(...all(train).map(({ token }) => token.length)));
    train.close();
    validation.close();
  });

  test('has examples with pictures and sounds, and says whose work they are', async () => {
    const { folder, manifest } = prepared;
    expect(new Set(manifest.examples.map(({ known }) => known))).toEqual(new Set([true, false]));
    expect(manifest.examples.some(({ spoken }) => spoken)).toBe(true);
    using file = await SafetensorsFile.open(join(folder, 'examples.safetensors'));
    for (const { name, spoken } of manifest.examples) {
      expect(file.info(`${name}.picture`)).toMatchObject({ dtype: 'U8', shape: [32, 32, 3] });
      expect(file.has(`${name}.sound`)).toBe(spoken);
      if (spoken) expect((file.read(`${name}.sound`) as Float32Array).some((x) => Math.abs(x) > 0.1)).toBe(true);
    }
    const licences = manifest.attribution.map(({ licence }) => licence);
    for (const licence of ['Apache-2.0', 'MIT', 'CC-BY-4.0', 'BSD-4-Clause']) expect(licences).toContain(licence);
  });

  test('is the same with any number of threads', async () => {
    const again = await prepareEmoji(options, { out: join(root, 'b'), threads: 3 });
    expect(again.cached).toBe(false);
    expect(hashes(again.folder)).toEqual(hashes(prepared.folder));
  }, 120_000);

  test('returns at once when the set is there', async () => {
    const began = performance.now();
    const again = await prepareEmoji(options, { out: prepared.folder });
    expect(again).toEqual({ ...prepared, cached: true });
    expect(performance.now() - began).toBeLessThan(2000);
  });

  test('refuses unknown options and a folder that holds something else', async () => {
    await expect(prepareEmoji({ concept: 3 } as object)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      message: expect.stringContaining('did you mean concepts?'),
    });
    const foreign = join(root, 'foreign');
    mkdirSync(foreign);
    writeFileSync(join(foreign, 'thesis.txt'), 'mine');
    await expect(prepareEmoji(options, { out: foreign })).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
    expect(readdirSync(foreign)).toEqual(['thesis.txt']);
  });

  test('leaves nothing behind when it is stopped', async () => {
    const before = readdirSync(root).sort();
    const stopping = new AbortController();
    const running = prepareEmoji(
      { ...options, seed: 1 },
      { out: join(root, 'c'), threads: 1, signal: stopping.signal },
    );
    setTimeout(() => stopping.abort(), 300);
    await expect(running).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(readdirSync(root).sort()).toEqual(before);
  }, 60_000);
});
