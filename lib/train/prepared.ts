import { resolve } from 'node:path';
import { EMBEDDED, type RunConfig } from '../config/run_config.js';
import { readManifest } from '../data/manifest.js';
import type { PrepareProgress } from '../data/prepare_progress.js';
import { makeVocabulary, type Vocabulary } from '../modalities/vocabulary.js';

/** Folder of a run's data set, absolute. The embedded one is prepared where it is not yet. */
export async function datasetFolder(
  { data, train }: RunConfig,
  run: { progress?: PrepareProgress; signal?: AbortSignal },
): Promise<string> {
  if (data.dataset !== EMBEDDED) return resolve(data.dataset);
  // Loaded here: it needs packages that only the embedded data set needs.
  const { prepareEmoji } = await import('../data/prepare_emoji.js');
  const threads = train.threads > 0 ? { threads: train.threads } : {};
  try {
    const { folder } = await prepareEmoji(data.prepare, { ...run, ...threads });
    return resolve(folder);
  } finally {
    run.progress?.stop();
  }
}

/** Vocabulary of a run's data set, without preparing it: that of the embedded set follows from its options. */
export function vocabularyOf({ data }: RunConfig): Vocabulary {
  if (data.dataset !== EMBEDDED) return readManifest(data.dataset).vocabulary;
  const { spoken, text_vocabulary, image_stages, image_codes, speech_units, latents } = data.prepare;
  const text: [string, number] = ['text', text_vocabulary];
  if (latents) return makeVocabulary([text, ['image', 1]], { image: 3 * latents.patch_size ** 2 });
  const image: [string, number] = ['image', image_stages * image_codes];
  return makeVocabulary(spoken > 0 ? [text, image, ['speech', speech_units]] : [text, image]);
}
