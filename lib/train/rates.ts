import { hasOwnNorms, type ModelConfig } from '../config/model_config.js';
import type { Rate } from '../config/rates.js';
import { MotError, type MotErrorCode } from '../errors.js';
import { placeOf, type WeightPlace } from '../model/parameters.js';
import type { TensorShape } from '../model/model.js';

/**
 * Learning rate of each tensor as a share of `lr`: that of the last entry that names its place; 1 where none does.
 *
 * @param tensors Those of the model, in its order.
 * @param what What the entries are called in errors.
 * @returns As `AdamWOptions.lrScales`.
 * @throws MotError `code` for an entry that no tensor is meant by, and where nothing would be trained.
 */
export function lrScales(
  config: ModelConfig,
  tensors: readonly TensorShape[],
  rates: readonly Rate[],
  { what, code }: { what: string; code: MotErrorCode },
): number[] {
  const ownNorms = hasOwnNorms(config);
  const places = tensors.map(({ name }) => placeOf(name, ownNorms));
  const scales = places.map(() => 1);
  for (const [index, { tower, part, scale }] of rates.entries()) {
    let found = false;
    for (const [i, place] of places.entries()) {
      if ((tower !== undefined && tower !== place.tower) || (part !== undefined && part !== place.part)) continue;
      scales[i] = scale;
      found = true;
    }
    if (!found) {
      const given = [tower === undefined ? '' : `tower ${tower}`, part === undefined ? '' : `part ${part}`];
      throw new MotError(
        code,
        `${what}[${index}] names ${given.filter(Boolean).join(', ')}, which the model does not have; it has ${listOf(places)}.`,
      );
    }
  }
  if (scales.every((scale) => scale === 0))
    throw new MotError(code, `${what} freezes every weight; leave some part a scale above 0.`);
  return scales;
}

/** `self_attn of text, image; mlp of shared; lm_head`. */
function listOf(places: readonly WeightPlace[]): string {
  const towers = new Map<string, Set<string>>();
  for (const { tower, part } of places) {
    const names = towers.get(part) ?? new Set();
    towers.set(part, tower === undefined ? names : names.add(tower));
  }
  return [...towers].map(([part, names]) => (names.size > 0 ? `${part} of ${[...names].join(', ')}` : part)).join('; ');
}
