import { parseModelConfig } from '../config/model_config.js';
import { activeMatrixWeights } from '../model/flops.js';
import { Model, type DecodeBatch } from '../model/model.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext, Dtype } from './types.js';
import { modelConfig, shapeOf, type ModelSize } from './workload.js';

/** Weights that no cache holds: 277 MB in f32. */
const SIZE: ModelSize = { d_model: 768, n_layers: 8, ffn_dim: 2048, vocab: 16384, sequences: 1, length: 1024 };
const PROMPT = 128;
const CONTENDERS = [1, 2];

/** Suite `decode`: one sequence, one token at a time, each reading all the weights that it meets. */
export async function decodeSuite(context: BenchContext): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes) {
    await context.progress(`decode ${dtype}`);
    cases.push(...(await timeDecode(context, dtype)));
  }
  return cases;
}

async function timeDecode(context: BenchContext, dtype: Dtype): Promise<BenchCase[]> {
  const { threads } = context;
  const models: Model[] = [];
  const times = CONTENDERS.map((): number[] => []);
  const options = { dtype, threads, tokens: PROMPT, kv_slots: SIZE.length, training: false };
  try {
    for (const modalities of CONTENDERS) models.push(await Model.create(modelConfig(SIZE, modalities), options));
    for (const model of models) await model.decode(tokensFrom(0, PROMPT), Int32Array.of(PROMPT - 1));
    const rounds = Math.min(context.repeats(48), SIZE.length - PROMPT - 1);
    for (let round = 0; round <= rounds; round++)
      for (const [i, model] of models.entries()) {
        const begin = performance.now();
        await model.decode(tokensFrom(PROMPT + round, 1), Int32Array.of(0));
        if (round > 0) times[i]!.push(performance.now() - begin);
      }
  } finally {
    for (const model of models) await model.dispose();
  }
  return CONTENDERS.map((modalities, i) => {
    const summary = summarize(times[i]!);
    // Weights are kept in f32 in either number format; keys and values of the cache are few beside them.
    const bytes = 4 * activeMatrixWeights(parseModelConfig(modelConfig(SIZE, modalities)));
    return {
      name: `one token, ${modalities === 1 ? 'dense' : `MoT ${modalities}`}, d ${SIZE.d_model}, ${SIZE.n_layers} layers`,
      dtype,
      threads,
      ...summary,
      tokens_per_s: 1000 / summary.median_ms,
      gbps: bytes / summary.median_ms / 1e6,
      limit: 'read_gbps',
      ...(i > 0 ? { ratio_to_dense: medianRatio(times[i]!, times[0]!) } : {}),
      shape: { ...shapeOf(SIZE, modalities), prompt: PROMPT, bytes },
    };
  });
}

/** `count` tokens of the first modality at positions and slots from `begin` on, each seeing all before it. */
function tokensFrom(begin: number, count: number): DecodeBatch {
  const array = (value: (i: number) => number): Int32Array<ArrayBuffer> =>
    Int32Array.from({ length: count }, (_, i) => value(begin + i));
  return {
    token: array((i) => (i * 7919) % SIZE.vocab),
    modality: new Int32Array(count),
    position: array((i) => i),
    kvStart: new Int32Array(count),
    kvEnd: array((i) => i + 1),
    slot: array((i) => i),
  };
}
