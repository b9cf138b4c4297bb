import { MotError } from '../../errors.js';
import type { Tokenizers } from '../../modalities/document.js';
import { ImageTokenizer } from '../../modalities/image/patch_codebook.js';
import { ModuleTokenizer } from '../../modalities/module.js';
import { randomKey, randomUniform } from '../../modalities/random.js';
import { SpeechTokenizer } from '../../modalities/speech/speech_units.js';
import { TextTokenizer } from '../../modalities/text/bpe.js';
import { HubTextTokenizer } from '../../modalities/text/hub_tokenizer.js';
import { loadTextTokenizer, toTokenizerJson } from '../../modalities/text/tokenizer_json.js';
import type { PrepareProgress } from '../prepare_progress.js';
import type { WorkerPool } from '../../threads/worker_pool.js';
import type { GivenTokenizers } from './given_tokenizers.js';
import type { OwnOptions } from './options.js';
import { isPacked } from './packed.js';
import { planFile, planSource, silenceOf, type OpenSource, type Task } from './tasks.js';
import type { OwnTasks, Sample } from './worker.js';

/** Material in memory at most: characters, bytes of pictures, seconds of sound. */
const MOST_TEXT = 32e6;
const MOST_PICTURES = 128e6;
const MOST_SECONDS = 1800;
/** Tasks of a source that are looked at. */
const TASKS = 256;
/** Archives and packed files of a source that are looked at, since only their beginnings can be read quickly. */
const ARCHIVES = 16;

/**
 * Raw material from all sources for their tokenizers. The tasks looked at are drawn evenly; what is taken follows from
 * sources and options alone.
 *
 * @throws MotError ERR_DATA for a source in which nothing can be used.
 */
export async function sampleSources(
  sources: readonly OpenSource[],
  options: OwnOptions,
  pool: WorkerPool<OwnTasks>,
  progress: PrepareProgress,
): Promise<Sample> {
  const stage = progress.stage('sample', sources.length);
  const all: Sample = { texts: [], pictures: [], sounds: [], own: {}, items: 0 };
  let characters = 0;
  let pixels = 0;
  let seconds = 0;
  const take = ({ texts, pictures, sounds, own }: Sample): void => {
    for (const text of texts) if ((characters += text.length) <= MOST_TEXT) all.texts.push(text);
    for (const picture of pictures) if ((pixels += picture.data.length) <= MOST_PICTURES) all.pictures.push(picture);
    for (const sound of sounds)
      if ((seconds += sound.samples.length / sound.sampleRate) <= MOST_SECONDS) all.sounds.push(sound);
    for (const [name, values] of Object.entries(own)) (all.own[name] ??= []).push(...values);
  };
  for (const source of sources) {
    let items = 0;
    let reason = 'there is no document in it';
    const window: { task: Task; sample: Promise<Sample> }[] = [];
    const settle = async (): Promise<void> => {
      const { task, sample } = window.shift()!;
      const taken = await sample;
      if (items >= options.sample) return;
      items += taken.items;
      if (taken.skip && items === 0) reason = `${taken.skip.place.file ?? task.file}: ${taken.skip.reason}`;
      take(taken);
    };
    for await (const task of sampledTasks(source, options)) {
      const sample = pool
        .run('sample', { task, options, limit: options.sample }, { silence: silenceOf(task) })
        .catch((error: unknown): Sample => {
          if (!(error instanceof MotError && error.code === 'ERR_LIMIT')) throw error;
          return { texts: [], pictures: [], sounds: [], own: {}, items: 0, skip: { place: {}, reason: error.message } };
        });
      sample.catch(() => {}); // Told when its turn comes.
      window.push({ task, sample });
      if (window.length > pool.threads) await settle();
      if (items >= options.sample) break;
    }
    while (window.length > 0) await settle();
    if (items === 0) {
      const { kind, patterns } = source.options;
      throw new MotError(
        'ERR_DATA',
        `nothing in sources[${source.index}] (${kind} ${patterns.join(', ')}) can be used. The first that was looked at: ${reason}.`,
      );
    }
    all.items += items;
    stage.advance();
  }
  stage.end();
  return all;
}

/** Tasks of a source to look at, in an order that follows from the seed. */
async function* sampledTasks(source: OpenSource, options: OwnOptions): AsyncGenerator<Task> {
  const key = randomKey(options.seed, `sample:${source.index}`);
  if (source.options.kind === 'webdataset' || source.files.some(({ path }) => isPacked(path))) {
    const draws = source.files.map((file, i) => ({ item: file, draw: randomUniform(key, i) }));
    const files = smallest(draws, ARCHIVES);
    // Some tasks of each, in turn, so that no archive gives all.
    const plans = files.map((file) => planFile(source, file, options.limits));
    try {
      for (let open = [...plans]; open.length > 0;) {
        const next: typeof open = [];
        for (const plan of open) {
          const { value, done } = await plan.next();
          if (done) continue;
          yield value;
          next.push(plan);
        }
        open = next;
      }
    } finally {
      for (const plan of plans) await plan.return(undefined);
    }
    return;
  }
  let best: { item: Task; draw: number }[] = [];
  let index = 0;
  for await (const task of planSource(source, options.limits)) {
    best.push({ item: task, draw: randomUniform(key, index++) });
    if (best.length >= 2 * TASKS) best = keepSmallest(best, TASKS);
  }
  yield* smallest(best, TASKS);
}

function keepSmallest<T extends { draw: number }>(list: readonly T[], count: number): T[] {
  return [...list].sort((a, b) => a.draw - b.draw).slice(0, count);
}

function smallest<T>(list: readonly { item: T; draw: number }[], count: number): T[] {
  return keepSmallest(list, count).map(({ item }) => item);
}

/**
 * Learns a tokenizer for each modality that has none given, all at once.
 *
 * @throws MotError ERR_DATA for a modality that is asked for and of which the sample has nothing.
 */
export async function learnTokenizers(
  sample: Sample,
  options: OwnOptions,
  given: GivenTokenizers,
  pool: WorkerPool<OwnTasks>,
  progress: PrepareProgress,
): Promise<Tokenizers> {
  const { seed, modalities } = options;
  const { text, image, speech, own } = options.tokenizers;
  const wanted = (name: string, material: readonly unknown[]): boolean => {
    if (!(modalities?.includes(name) ?? material.length > 0)) return false;
    if (material.length > 0) return true;
    throw new MotError(
      'ERR_DATA',
      `modalities names ${name}, but the documents looked at have none; take it out, or raise sample (${options.sample}).`,
    );
  };
  const withImage = wanted('image', sample.pictures);
  const withSpeech = wanted('speech', sample.sounds);
  const withOwn = Object.keys(own).filter((name) => wanted(name, sample.own[name] ?? []));
  const stage = progress.stage('tokenizers', 1 + Number(withImage) + Number(withSpeech) + withOwn.length);
  const fromModule = async (
    modality: string,
    { module, options }: { module: string; options?: unknown },
    samples: readonly unknown[],
    raw: { pictureSize?: number } = {},
  ): Promise<ModuleTokenizer> => {
    const state = await pool.run('createModule', { module, context: { modality, options, samples, seed } });
    return ModuleTokenizer.of(modality, module, state, raw);
  };
  const done = <T>(value: T): T => {
    stage.advance();
    return value;
  };
  const learnImage = async (): Promise<ImageTokenizer | ModuleTokenizer> => {
    if (given.image) return given.image;
    const { module, options, size, patch, codes, stages } = image;
    if (module !== undefined) return fromModule('image', { module, options }, sample.pictures, { pictureSize: size });
    const trained = { pictureSize: size, patchSize: patch, codes, stages, seed };
    return ImageTokenizer.fromTensors(
      await pool.run('trainImage', { pictures: sample.pictures, options: trained, threads: pool.threads }),
    );
  };
  const learnSpeech = async (): Promise<SpeechTokenizer | ModuleTokenizer> => {
    if (given.speech) return given.speech;
    const { module, options, units } = speech;
    if (module !== undefined) return fromModule('speech', { module, options }, sample.sounds);
    return SpeechTokenizer.fromTensors(
      await pool.run('trainSpeech', { sounds: sample.sounds, options: { units, seed }, threads: pool.threads }),
    );
  };
  const [textTokenizer, imageTokenizer, speechTokenizer, ...ownTokenizers] = await Promise.all([
    textOf(sample.texts, text, pool).then(done),
    withImage && learnImage().then(done),
    withSpeech && learnSpeech().then(done),
    ...withOwn.map((name) => fromModule(name, own[name]!, sample.own[name]!).then(done)),
  ]);
  stage.end();
  return {
    text: textTokenizer,
    ...(imageTokenizer ? { image: imageTokenizer } : {}),
    ...(speechTokenizer ? { speech: speechTokenizer } : {}),
    ...Object.fromEntries(ownTokenizers.map((tokenizer) => [tokenizer.modality, tokenizer])),
  };
}

async function textOf(
  texts: string[],
  options: OwnOptions['tokenizers']['text'],
  pool: WorkerPool<OwnTasks>,
): Promise<TextTokenizer | HubTextTokenizer> {
  if (options.file !== undefined) return loadTextTokenizer(options.file);
  const model = new TextTokenizer(await pool.run('trainText', { texts, options: { size: options.vocabulary } }));
  if (options.special_tokens.length === 0) return model;
  return new HubTextTokenizer(toTokenizerJson(model, options.special_tokens));
}
