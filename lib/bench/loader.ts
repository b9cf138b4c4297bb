import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Loader } from '../data/loader.js';
import { ShardSource, ShardWriter } from '../data/shard.js';
import { removeQuietly } from '../io/files.js';
import { makeVocabulary } from '../modalities/vocabulary.js';
import { summarize } from './statistics.js';
import type { BenchCase, BenchContext } from './types.js';
import { makeBatch, modelConfig, randomNumbers, stepFlops, STEP_SIZES } from './workload.js';

/** Tokens of the shard: 20 MB, more than a loop of batches keeps in the caches. */
const TOKENS = 2 ** 22;
/** Batches of one round. */
const BATCHES = 64;

/** Suite `loader`: documents of 64 to 512 tokens of three modalities, shuffled and packed; one core. */
export async function loaderSuite(context: BenchContext): Promise<BenchCase[]> {
  await context.progress('loader');
  const folder = mkdtempSync(join(tmpdir(), 'mot-bench-'));
  try {
    const vocabulary = makeVocabulary([
      ['text', 2048],
      ['image', 1024],
      ['speech', 512],
    ]);
    const writer = new ShardWriter(folder, 'train', vocabulary);
    const random = randomNumbers(1);
    for (let tokens = 0; tokens < TOKENS;) {
      const document = makeDocument(vocabulary, 64 + Math.floor(random() * 449), random);
      await writer.add(document);
      tokens += document.token.length;
    }
    const source = await ShardSource.open(folder, await writer.finish(), vocabulary);
    try {
      return [timeLoader(context, source)];
    } finally {
      source.close();
    }
  } finally {
    removeQuietly(folder);
  }
}

function makeDocument(
  { modalities, ranges }: ReturnType<typeof makeVocabulary>,
  length: number,
  random: () => number,
): { token: Int32Array; modality: Uint8Array } {
  const token = new Int32Array(length);
  const modality = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    modality[i] = Math.floor((i / length) * modalities.length);
    const { begin, end } = ranges[modalities[modality[i]!]!]!;
    token[i] = begin + Math.floor(random() * (end - begin));
  }
  return { token, modality };
}

function timeLoader({ dtypes, repeats, limits }: BenchContext, source: ShardSource): BenchCase {
  const size = STEP_SIZES[0]!;
  const loader = new Loader(source, { sequences: size.sequences, seqLen: size.length });
  const ms: number[] = [];
  let tokens = 0;
  const rounds = repeats(9);
  for (let round = 0, cursor = 0; round <= rounds; round++) {
    const begin = performance.now();
    let count = 0;
    for (let i = 0; i < BATCHES; i++) {
      const batch = loader.batchAt(cursor);
      cursor = batch.cursor;
      for (const { token } of batch.microBatches) count += token.length;
    }
    if (round === 0) continue; // compiles the code, reads the file into memory
    ms.push((performance.now() - begin) / BATCHES);
    tokens += count / BATCHES;
  }
  const perBatch = tokens / rounds;
  const times = summarize(ms);
  const dtype = dtypes.includes('bf16') ? 'bf16' : 'f32'; // the faster step
  const step = stepFlops(modelConfig(size, 1), makeBatch(size, 1)) / limits[`${dtype}_gflops`] / 1e6;
  return {
    name: `a batch of ${size.sequences} x ${size.length}`,
    dtype: 'i32',
    threads: 1,
    ...times,
    tokens_per_s: (1000 * perBatch) / times.median_ms,
    share_of_step: times.median_ms / step,
    shape: { sequences: size.sequences, length: size.length, documents: source.documents },
  };
}
