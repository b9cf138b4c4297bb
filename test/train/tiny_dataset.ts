import { mkdirSync } from 'node:fs';
import type { DatasetManifest, SplitName } from '../../lib/data/dataset.js';
import { writeManifest } from '../../lib/data/manifest.js';
import { ShardWriter } from '../../lib/data/shard.js';
import { randomKey, randomUniform } from '../../lib/modalities/random.js';
import { makeVocabulary } from '../../lib/modalities/vocabulary.js';

export const LONGEST = 24;

/** Tokens and modalities of a document. */
type TinyDocument = { token: number[]; modality: number[] };

/** Modalities and their token ids, unless told otherwise. */
const SIZES: [modality: string, ids: number][] = [
  ['text', 20],
  ['image', 16],
  ['speech', 12],
];

/**
 * A prepared data set with a pattern to learn: each span counts upwards.
 *
 * @param make Documents of another kind: document d of the training split. Validation takes them, too.
 */
export async function writeTinyDataset(
  folder: string,
  documents = 200,
  make?: (d: number) => TinyDocument,
  sizes = SIZES,
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const vocabulary = makeVocabulary(sizes);
  const splits = {} as DatasetManifest['splits'];
  for (const split of ['train', 'validation', 'heldout'] satisfies SplitName[]) {
    const key = randomKey(7, split);
    const writer = new ShardWriter(folder, split, vocabulary);
    const count = split === 'train' ? documents : 12;
    for (let d = 0, draw = 0; d < count; d++) {
      if (make) {
        await writer.add(make(d));
        continue;
      }
      const token: number[] = [];
      const modality: number[] = [];
      const length = 6 + Math.floor(randomUniform(key, draw++) * (LONGEST - 6));
      while (token.length < length) {
        const m = Math.floor(randomUniform(key, draw++) * sizes.length);
        const { begin, end } = vocabulary.ranges[vocabulary.modalities[m]!]!;
        const first = Math.floor(randomUniform(key, draw++) * (end - begin));
        for (let run = 0; run < 4 && token.length < length; run++) {
          token.push(begin + ((first + run) % (end - begin)));
          modality.push(m);
        }
      }
      await writer.add({ token, modality });
    }
    splits[split] = await writer.finish();
  }
  const manifest: DatasetManifest = {
    format: 'mot-dataset',
    version: 1,
    name: 'tiny',
    fingerprint: `tiny-${documents}-${sizes.length}`,
    vocabulary,
    tokenizers: {},
    splits,
    longestDocument: LONGEST,
    baselines: { validation: {}, heldout: {} },
    examples: [],
    attribution: [],
  };
  writeManifest(folder, manifest);
}
