import { CHECKPOINTING } from '../config/checkpointing.js';
import { Model } from '../model/model.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext } from './types.js';
import { makeBatch, modelConfig, shapeOf, stepFlops, STEP_SIZES } from './workload.js';

const MODALITIES = 2;

/**
 * Suite `recompute`: the first size of the step suite with each mode of activation checkpointing; they take turns in
 * every round, and the first, which keeps everything, is what the others are held against. Useful operations are those of the mode that computes nothing twice.
 */
export async function recomputeSuite(context: BenchContext): Promise<BenchCase[]> {
  const size = STEP_SIZES[0]!;
  const config = modelConfig(size, MODALITIES);
  const batch = makeBatch(size, MODALITIES);
  const flops = stepFlops(config, batch);
  const tokens = size.sequences * size.length;
  const cases: BenchCase[] = [];
  for (const dtype of context.dtypes) {
    await context.progress(`recompute ${dtype}`);
    const models: Model[] = [];
    const times = CHECKPOINTING.map((): number[] => []);
    try {
      for (const checkpointing of CHECKPOINTING)
        models.push(await Model.create(config, { tokens, dtype, threads: context.threads, checkpointing }));
      for (let round = 0, rounds = context.repeats(5); round <= rounds; round++)
        for (const [i, model] of models.entries()) {
          const begin = performance.now();
          await model.zeroGradients();
          await model.backward(batch);
          if (round > 0) times[i]!.push(performance.now() - begin); // the first touches the memory
        }
      for (const [i, model] of models.entries()) {
        const summary = summarize(times[i]!);
        cases.push({
          name: `forward+backward, MoT ${MODALITIES}, checkpointing ${CHECKPOINTING[i]}`,
          dtype,
          threads: context.threads,
          ...summary,
          gflops: flops / summary.median_ms / 1e6,
          tokens_per_s: (1000 * tokens) / summary.median_ms,
          limit: `${dtype}_gflops`,
          ...(i === 0 ? {} : { ratio_to_keeping: medianRatio(times[i]!, times[0]!) }),
          plan_mb: model.memory().arenaBytes / 1e6,
          shape: shapeOf(size, MODALITIES),
        });
      }
    } finally {
      for (const model of models) await model.dispose();
    }
  }
  return cases;
}
