import { setImmediate as breathe } from 'node:timers/promises';
import type { Document } from '../../model/batch.js';
import type { Vocabulary } from '../../modalities/vocabulary.js';
import type { DatasetManifest, DatasetSplit } from '../dataset.js';
import { BaselineFitter } from '../ngram_baselines.js';
import type { PrepareProgress } from '../prepare_progress.js';
import { ShardSource } from '../shard.js';

/** Tokens that the lines to beat are fitted on and judged on, at most: they live in memory. */
const FITTED_TOKENS = 2e6;
const JUDGED_TOKENS = 5e5;
const DOCUMENTS_A_BREATH = 500;

/** Unigram and bigram lines of a data set, from documents spread evenly over its splits. */
export async function fitBaselines(
  folder: string,
  splits: DatasetManifest['splits'],
  vocabulary: Vocabulary,
  tokenizers: DatasetManifest['tokenizers'],
  progress: PrepareProgress,
): Promise<DatasetManifest['baselines']> {
  const stage = progress.stage('lines to beat', 1);
  const spread = async (split: DatasetSplit, tokens: number, use: (document: Document) => void): Promise<void> => {
    const source = await ShardSource.open(folder, split, vocabulary, tokenizers);
    try {
      const stride = Math.max(1, Math.ceil(split.tokens / tokens));
      for (let i = 0, n = 1; i < source.documents; i += stride, n++) {
        use(source.read(i));
        if (n % DOCUMENTS_A_BREATH === 0) await breathe();
      }
    } finally {
      source.close();
    }
  };
  const fitter = new BaselineFitter(vocabulary.size, vocabulary.modalities);
  await spread(splits.train, FITTED_TOKENS, (document) => fitter.add(document));
  const judge = fitter.finish();
  const judged = { validation: [] as Document[], heldout: [] as Document[] };
  for (const name of ['validation', 'heldout'] as const)
    await spread(splits[name], JUDGED_TOKENS, (document) => judged[name].push(document));
  stage.end();
  return { validation: judge(judged.validation), heldout: judge(judged.heldout) };
}
