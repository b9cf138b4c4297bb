import type { Batch } from '../model/batch.js';
import type { WeightKind } from '../model/model.js';

/** Losses pooled over batches. */
export interface PooledLosses {
  /** Cross-entropy over all targets, nats a token; 0 without targets. */
  loss: number;
  /** The same of each modality that has targets. */
  losses: Record<string, number>;
  /** Targets of each modality. */
  targets: Record<string, number>;
  /** Mean squared error of the predicted noise, over images; only where there are images with noise. */
  diffusionLoss?: number;
}

/** Sums of one batch, as steps and evaluations of a model return them. */
interface LossSums {
  /** Cross-entropy of each modality, summed. */
  ceSum: ArrayLike<number>;
  targetCount: ArrayLike<number>;
  /** Sum over images of the image's mean squared error, and how many they are; default 0. */
  diffusionSum?: number;
  imageCount?: number;
}

/**
 * Divides sums by counts: a modality's loss is over its own targets, the diffusion loss over images, whichever batch they
 * came in.
 */
export function poolLosses(results: Iterable<LossSums>, modalities: readonly string[]): PooledLosses {
  const sums = modalities.map(() => ({ ce: 0, count: 0 }));
  const diffusion = { sum: 0, images: 0 };
  for (const result of results) {
    sums.forEach((sum, m) => {
      sum.ce += result.ceSum[m]!;
      sum.count += result.targetCount[m]!;
    });
    diffusion.sum += result.diffusionSum ?? 0;
    diffusion.images += result.imageCount ?? 0;
  }
  const total = sums.reduce((all, { ce, count }) => ({ ce: all.ce + ce, count: all.count + count }));
  const present = modalities.map((name, m) => ({ name, ...sums[m]! })).filter(({ count }) => count > 0);
  return {
    loss: total.count > 0 ? total.ce / total.count : 0,
    losses: Object.fromEntries(present.map(({ name, ce, count }) => [name, ce / count])),
    targets: Object.fromEntries(present.map(({ name, count }) => [name, count])),
    ...(diffusion.images > 0 ? { diffusionLoss: diffusion.sum / diffusion.images } : {}),
  };
}

/** Losses of a model on batches, without gradients; weights stay as they are. `weights`: which; default `raw`. */
export async function evaluate(
  model: { evaluate(batch: Batch, options: { weights: WeightKind }): Promise<LossSums> },
  batches: Iterable<Batch>,
  modalities: readonly string[],
  weights: WeightKind = 'raw',
): Promise<PooledLosses> {
  const results: LossSums[] = [];
  for (const batch of batches) results.push(await model.evaluate(batch, { weights }));
  return poolLosses(results, modalities);
}
