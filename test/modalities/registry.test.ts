import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { DatasetManifest } from '../../lib/data/dataset.js';
import { ImageTokenizer } from '../../lib/modalities/image/patch_codebook.js';
import {
  loadTokenizers,
  saveTokenizers,
  tokenizerFormats,
  type TokenizerFormat,
  type Tokenizers,
} from '../../lib/modalities/registry.js';
import { SpeechTokenizer } from '../../lib/modalities/speech/speech_units.js';
import { TextTokenizer } from '../../lib/modalities/text/bpe.js';
import type { Tokenizer } from '../../lib/modalities/tokenizer.js';
import { makeVocabulary } from '../../lib/modalities/vocabulary.js';
import { makePicture, makeSpeech } from './support.js';

/** An own modality: levels 0 .. levels - 1, one number each. */
class LevelTokenizer implements Tokenizer<number> {
  readonly modality = 'level';
  constructor(readonly size: number) {}
  encode(raw: number): Int32Array {
    return Int32Array.of(raw);
  }
  decode(ids: ArrayLike<number>): number {
    return ids[0] ?? 0;
  }
  rule(length: number): { begin: number; end: number; mayEnd: boolean } {
    return { begin: 0, end: length === 0 ? this.size : 0, mayEnd: length > 0 };
  }
}

const levelFormat: TokenizerFormat = {
  file: 'level.json',
  save: async (path, tokenizer) => writeFileSync(path, JSON.stringify(tokenizer.size)),
  load: async (path) => new LevelTokenizer(JSON.parse(readFileSync(path, 'utf8')) as number),
};

describe('tokenizers of a data set', () => {
  const picture = makePicture(1);
  const sound = makeSpeech(1);
  const text = TextTokenizer.train(['a red disc'], { size: 260 });
  const image = ImageTokenizer.train([picture, makePicture(2)], { codes: 8 });
  const speech = SpeechTokenizer.train([sound], { units: 12 });
  const tokenizers: Tokenizers = { text, image, speech, level: new LevelTokenizer(5) };
  const formats = { ...tokenizerFormats, level: levelFormat };
  const vocabulary = makeVocabulary(Object.entries(tokenizers).map(([modality, { size }]) => [modality, size]));
  const folder = mkdtempSync(join(tmpdir(), 'mot-registry-'));
  let manifest: Pick<DatasetManifest, 'tokenizers' | 'vocabulary'>;

  beforeAll(async () => {
    manifest = { vocabulary, tokenizers: await saveTokenizers(folder, tokenizers, formats) };
  });

  test('are read back', async () => {
    const loaded = await loadTokenizers(folder, manifest, formats);
    expect(Object.keys(loaded)).toEqual(vocabulary.modalities);
    expect(loaded['text']!.encode('a red 🔴')).toEqual(text.encode('a red 🔴'));
    expect(loaded['image']!.encode(picture)).toEqual(image.encode(picture));
    expect(loaded['speech']!.encode(sound)).toEqual(speech.encode(sound));
    expect(loaded['level']!.size).toBe(5);
  });

  test('must be those of the manifest, and fit the vocabulary', async () => {
    const load = (change: Partial<typeof manifest>, own = formats): Promise<unknown> =>
      loadTokenizers(folder, { ...manifest, ...change }, own);
    const { level: _, ...others } = manifest.tokenizers;
    await expect(load({ tokenizers: others })).rejects.toMatchObject({ code: 'ERR_DATA' });
    const bigger = { ...vocabulary, ranges: { ...vocabulary.ranges, level: { begin: 0, end: 6 } } };
    await expect(load({ vocabulary: bigger })).rejects.toMatchObject({ code: 'ERR_DATA' });
    const missing = { ...manifest.tokenizers, level: { file: 'none.json', sha256: '' } };
    await expect(load({ tokenizers: missing })).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    await expect(loadTokenizers(folder, manifest)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    await expect(saveTokenizers(folder, { image: tokenizers['level']! })).rejects.toMatchObject({
      code: 'ERR_ARGUMENT',
    });

    appendFileSync(join(folder, 'level.json'), ' ');
    await expect(load({})).rejects.toMatchObject({ code: 'ERR_DATA' });
  });
});
