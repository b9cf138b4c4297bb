import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { MotError } from '../../errors.js';
import { makeFolder } from '../../io/files.js';
import { saveTokenizers } from '../../modalities/registry.js';
import { makeVocabulary } from '../../modalities/vocabulary.js';
import type { DatasetManifest } from '../dataset.js';
import { readManifest, writeManifest } from '../manifest.js';
import type { PreparedDataset, PrepareRun } from '../prepare_emoji.js';
import { silentPreparation, type PrepareProgress } from '../prepare_progress.js';
import { WorkerPool } from '../../threads/worker_pool.js';
import { fitBaselines } from './baselines.js';
import { encodeSources } from './encode.js';
import { givenTokenizers, withGivenSizes, type GivenTokenizers } from './given_tokenizers.js';
import { findFiles, type SourceFile } from './glob.js';
import type { OwnOptions, SourceOptions } from './options.js';
import { learnTokenizers, sampleSources } from './sample.js';
import { readState, removeState, writeState, type PrepareState } from './state.js';
import type { OpenSource } from './tasks.js';
import type { OwnTasks } from './worker.js';

/** Raised whenever the same options and files give other data. */
const REVISION = 1;

/**
 * Prepares a data set of the user's own documents in `options.out`. Shards follow from the config and the files, not
 * from the number of threads. Stopped at any moment, the next call goes on from the shards that are finished; the
 * manifest is written last. A set that is there already, of the same config and files, is left as it is.
 *
 * What cannot be used is left out and named in `skipped.jsonl`: source, file, line or member or row, reason.
 *
 * @throws MotError ERR_DATA when a source has no file or nothing that can be used, or nothing is left to train on;
 *   ERR_FILE_WRITE when the folder holds something else or cannot be written; ERR_FILE_OPEN, ERR_FILE_FORMAT or
 *   ERR_CONFIG for a tokenizer file; ERR_ABORTED.
 */
export async function prepareOwn(config: OwnOptions, run: Omit<PrepareRun, 'out'> = {}): Promise<PreparedDataset> {
  const { progress = silentPreparation, threads = availableParallelism(), signal } = run;
  const folder = config.out;
  const sources = config.sources.map(openSource);
  const inputs = hashInputs(config, sources);
  const cached = cachedManifest(folder, inputs);
  if (cached) return { folder, manifest: cached, cached: true };
  const given = await givenTokenizers(config);
  const options = withGivenSizes(config, given);
  makeFolder(folder);
  await limitSharp();
  const pool = new WorkerPool<OwnTasks>(new URL('./worker.js', import.meta.url), threads);
  const stop = (): void => void pool.close();
  signal?.addEventListener('abort', stop);
  try {
    let state = readState(folder, inputs);
    if (state) progress.say(`going on in ${folder}: ${state.splits.train.documents} documents are there already`);
    else {
      state = await startState(folder, inputs, sources, options, given, pool, progress);
      writeState(folder, state);
    }
    await encodeSources(folder, state, sources, options, pool, progress);
    if (state.splits.train.documents === 0)
      throw new MotError(
        'ERR_DATA',
        `no document is left to train on; see ${join(folder, 'skipped.jsonl')}, the weights of the sources and split.`,
      );
    const manifest = await finishManifest(options, state, progress);
    removeState(folder);
    return { folder, manifest, cached: false };
  } catch (error) {
    if (signal?.aborted)
      throw new MotError('ERR_ABORTED', `preparing the data set was stopped; the same command goes on in ${folder}`, {
        cause: error,
      });
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
    await pool.close();
  }
}

/** Pictures are decoded by the workers side by side: one thread for each, and nothing kept of what is done. */
async function limitSharp(): Promise<void> {
  const { default: sharp } = await import('sharp');
  sharp.concurrency(1);
  sharp.cache(false);
}

function openSource(options: SourceOptions, index: number): OpenSource {
  const files = new Map<string, SourceFile>();
  for (const pattern of options.patterns) {
    const found = findFiles(pattern);
    if (found.length === 0)
      throw new MotError('ERR_DATA', `sources[${index}]: there is no file ${pattern}; check the path or pattern.`);
    for (const file of found) files.set(file.path, file);
  }
  return { index, options, files: [...files.values()] };
}

/** Hash of the config and of names, sizes and times of all files that it names. */
function hashInputs({ out: _, ...options }: OwnOptions, sources: readonly OpenSource[]): string {
  const tokenizer: SourceFile[] = [];
  for (const modality of ['text', 'image', 'speech'] as const) {
    const { file } = options.tokenizers[modality];
    if (file === undefined) continue;
    const found = findFiles(file);
    if (found.length === 0)
      throw new MotError('ERR_FILE_OPEN', `tokenizers.${modality}.file: there is no file ${file}; check the path.`);
    tokenizer.push(...found);
  }
  const modules = [
    options.tokenizers.image,
    options.tokenizers.speech,
    ...Object.values(options.tokenizers.own),
  ].flatMap(({ module }) => (module === undefined ? [] : [module]));
  for (const module of modules) {
    const found = findFiles(module);
    if (found.length === 0)
      throw new MotError('ERR_FILE_OPEN', `there is no module ${module}; paths start from the working folder.`);
    tokenizer.push(...found);
  }
  const hash = createHash('sha256').update(JSON.stringify({ revision: REVISION, options }));
  for (const list of [...sources.map(({ files }) => files), tokenizer])
    for (const { path, bytes, changed } of list) hash.update(JSON.stringify([path, bytes, changed]));
  return hash.digest('hex');
}

/** The manifest of the same data set, if it is there. MotError ERR_FILE_WRITE for a folder that holds something else. */
function cachedManifest(folder: string, inputs: string): DatasetManifest | undefined {
  if (!existsSync(folder)) return undefined;
  const unfinished = 'unfinished.json';
  if (statSync(folder).isDirectory()) {
    const names = readdirSync(folder);
    if (names.includes('manifest.json')) {
      const manifest = readManifest(folder);
      if (manifest.inputs === inputs) return manifest;
      throw new MotError(
        'ERR_FILE_WRITE',
        `${folder} holds a data set of another config or of sources that have changed since; remove it, or choose another out.`,
      );
    }
    // Killed before its first state was written, it holds tokenizers at most.
    const early = names.every((name) => /^(tokenizer\.json|\w+_tokenizer\.(safetensors|json)|.*\.tmp-\d+)$/.test(name));
    if (names.includes(unfinished) || early) return undefined;
  }
  throw new MotError(
    'ERR_FILE_WRITE',
    `${folder} is something that mot prepare did not make; choose another out or remove it.`,
  );
}

/** Learns the tokenizers that are not given, and saves all. */
async function startState(
  folder: string,
  inputs: string,
  sources: readonly OpenSource[],
  options: OwnOptions,
  given: GivenTokenizers,
  pool: WorkerPool<OwnTasks>,
  progress: PrepareProgress,
): Promise<PrepareState> {
  const sample = await sampleSources(sources, options, pool, progress);
  const learnt = await learnTokenizers(sample, options, given, pool, progress);
  const vocabulary = makeVocabulary(Object.entries(learnt).map(([name, { size }]) => [name, size]));
  const tokenizers = await saveTokenizers(folder, learnt);
  const perModality = (): Record<string, number> => Object.fromEntries(vocabulary.modalities.map((name) => [name, 0]));
  const split = () => ({ shards: [], documents: 0, tokens: 0, targets: perModality() });
  return {
    format: 'mot-unfinished',
    version: 1,
    inputs,
    vocabulary,
    tokenizers,
    tasks: 0,
    file: '',
    lines: 0,
    splits: { train: split(), validation: split(), heldout: split() },
    longest: 0,
    skippedBytes: 0,
    sources: sources.map(({ options: { kind, patterns }, files }) => ({
      kind,
      patterns,
      files: files.length,
      items: 0,
      documents: 0,
      skipped: 0,
      tokens: perModality(),
    })),
  };
}

async function finishManifest(
  { out: folder, tokenizers: { image } }: OwnOptions,
  state: PrepareState,
  progress: PrepareProgress,
): Promise<DatasetManifest> {
  const { vocabulary, tokenizers, splits, inputs, longest, sources } = state;
  const content = Object.values(splits).flatMap(({ shards }) => shards);
  const manifest: DatasetManifest = {
    format: 'mot-dataset',
    version: 1,
    name: 'own',
    fingerprint: createHash('sha256').update(JSON.stringify({ vocabulary, tokenizers, content })).digest('hex'),
    inputs,
    vocabulary,
    tokenizers,
    splits,
    longestDocument: longest,
    baselines: await fitBaselines(folder, splits, vocabulary, tokenizers, progress),
    examples: [],
    attribution: [],
    ...(vocabulary.modalities.includes('image') ? { imageFit: image.fit } : {}),
    sources,
  };
  writeManifest(folder, manifest);
  return manifest;
}
