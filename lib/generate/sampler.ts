import { MotError } from '../errors.js';

/** How the next token is drawn. */
export interface SamplingOptions {
  /** Divides the logits; 0 takes the most likely token. Default 1. */
  temperature?: number;
  /** Only the `topK` most likely tokens; 0: all. Default 0. */
  topK?: number;
  /** Only the most likely tokens whose probabilities reach this sum, in (0, 1]. Default 1: all. */
  topP?: number;
}

/** Token ids [begin, end). */
export type IdRange = readonly [begin: number, end: number];

/** Throws ERR_ARGUMENT naming the option. */
export function checkSampling({ temperature = 1, topK = 0, topP = 1 }: SamplingOptions): Required<SamplingOptions> {
  if (!(temperature >= 0 && Number.isFinite(temperature)))
    throw new MotError('ERR_ARGUMENT', `temperature must be a number of at least 0, got ${temperature}.`);
  if (!(Number.isInteger(topK) && topK >= 0))
    throw new MotError('ERR_ARGUMENT', `topK must be a whole number of at least 0 (0: all tokens), got ${topK}.`);
  if (!(topP > 0 && topP <= 1)) throw new MotError('ERR_ARGUMENT', `topP must be in (0, 1], got ${topP}.`);
  return { temperature, topK, topP };
}

/**
 * Draws one token among the allowed ids.
 *
 * @param logits [V]
 * @param allowed Disjoint ranges of ids; at least one id in all.
 * @param uniform In [0, 1): decides the draw.
 */
export function sampleToken(
  logits: Float32Array,
  allowed: readonly IdRange[],
  { temperature, topK, topP }: Required<SamplingOptions>,
  uniform: number,
): number {
  const ids: number[] = [];
  for (const [begin, end] of allowed) for (let id = begin; id < end; id++) ids.push(id);
  if (ids.length === 0) throw new MotError('ERR_INTERNAL', 'no token is allowed at this place');
  let best = ids[0]!;
  for (const id of ids) {
    const logit = logits[id];
    if (logit === undefined || Number.isNaN(logit))
      throw new MotError('ERR_NOT_FINITE', `the logit of token ${id} is ${logit}; check the checkpoint's weights.`);
    if (logit > logits[best]!) best = id;
  }
  if (temperature === 0 || topK === 1) return best;

  // Ties go to the lower id, so that a draw does not depend on the sort.
  ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
  if (topK > 0 && topK < ids.length) ids.length = topK;
  const highest = logits[best]!;
  const weight = ids.map((id) => Math.exp((logits[id]! - highest) / temperature));
  let total = weight.reduce((sum, w) => sum + w, 0);
  if (topP < 1) {
    let kept = 0;
    let sum = 0;
    while (kept < ids.length && sum < topP * total) sum += weight[kept++]!;
    ids.length = kept;
    total = sum;
  }
  let left = uniform * total;
  for (let i = 0; i < ids.length; i++) {
    left -= weight[i]!;
    if (left < 0) return ids[i]!;
  }
  return ids[ids.length - 1]!; // rounding
}
