import { Model } from '../model/model.js';
import type { StepMemory } from './child.js';
import { inChild } from './in_child.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext, Dtype } from './types.js';
import { makeBatch, modelConfig, shapeOf, stepFlops, STEP_SIZES, type ModelSize } from './workload.js';

/** Dense first: the others are held against it. */
const CONTENDERS = [1, 2, 3];

interface Times {
  gradients: number[];
  optimizer: number[];
}

/** Suite `step`: every size and number format. */
export async function stepSuite(context: BenchContext): Promise<BenchCase[]> {
  return timeSteps(context, STEP_SIZES);
}

/** Steps of the given models; the contenders of a size take turns in every round. */
export async function timeSteps(context: BenchContext, sizes: readonly ModelSize[]): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const size of sizes)
    for (const dtype of context.dtypes) {
      await context.progress(`step d ${size.d_model} ${dtype}`);
      const times = await timeContenders(context, size, dtype);
      CONTENDERS.forEach((modalities, i) =>
        cases.push(...casesOf(context, size, dtype, modalities, times[i]!, times[0]!)),
      );
    }
  return cases;
}

async function timeContenders(context: BenchContext, size: ModelSize, dtype: Dtype): Promise<Times[]> {
  const tokens = size.sequences * size.length;
  const models: Model[] = [];
  try {
    for (const modalities of CONTENDERS)
      models.push(await Model.create(modelConfig(size, modalities), { tokens, dtype, threads: context.threads }));
    const batches = CONTENDERS.map((modalities) => makeBatch(size, modalities));
    const times = CONTENDERS.map((): Times => ({ gradients: [], optimizer: [] }));
    const rounds = context.repeats(5);
    for (let round = 0; round <= rounds; round++)
      for (const [i, model] of models.entries()) {
        const begin = performance.now();
        await model.zeroGradients();
        await model.backward(batches[i]!);
        const middle = performance.now();
        await model.adamw({ lr: 1e-4, step: round + 1 });
        const end = performance.now();
        if (round === 0) continue; // touches the memory
        times[i]!.gradients.push(middle - begin);
        times[i]!.optimizer.push(end - middle);
      }
    return times;
  } finally {
    for (const model of models) await model.dispose();
  }
}

function casesOf(
  { threads }: BenchContext,
  size: ModelSize,
  dtype: Dtype,
  modalities: number,
  times: Times,
  dense: Times,
): BenchCase[] {
  const config = modelConfig(size, modalities);
  const label = `${modalities === 1 ? 'dense' : `MoT ${modalities}`}, d ${size.d_model}, ${size.n_layers} layers`;
  const tokens = size.sequences * size.length;
  const flops = stepFlops(config, makeBatch(size, modalities));
  const { parameters } = Model.describe(config, { tokens, dtype, threads });
  const memory = inChild<StepMemory>('step', dtype, String(threads), String(modalities), JSON.stringify(size));
  const gradients = summarize(times.gradients);
  const optimizer = summarize(times.optimizer);
  const shape = shapeOf(size, modalities);
  const ratio = (which: keyof Times): { ratio_to_dense?: number } =>
    modalities === 1 ? {} : { ratio_to_dense: medianRatio(times[which], dense[which]) };
  return [
    {
      name: `forward+backward, ${label}`,
      dtype,
      threads,
      ...gradients,
      gflops: flops / gradients.median_ms / 1e6,
      tokens_per_s: (1000 * tokens) / gradients.median_ms,
      limit: `${dtype}_gflops`,
      ...ratio('gradients'),
      peak_rss_mb: memory.peakRssBytes / 1e6,
      plan_mb: memory.planBytes / 1e6,
      shape,
    },
    {
      // Gradient norm and AdamW: reads the gradient twice, weight and moments once, and writes those three.
      name: `optimizer, ${label}`,
      dtype,
      threads,
      ...optimizer,
      gbps: (32 * parameters) / optimizer.median_ms / 1e6,
      limit: 'copy_gbps',
      shape: { ...shape, parameters },
    },
  ];
}
