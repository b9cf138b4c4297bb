import { hasOwnNorms, PARTS, towersOf, type ModelConfig, type Part, type PartOrNorms } from '../config/model_config.js';
import type { OUTER_PARTS } from '../config/rates.js';
import type { TensorShape } from './model.js';

/** Numbers of weights. */
export interface ParameterCount {
  total: number;
  /** Of the embedding of tokens, and of the output head. */
  embedding: number;
  head: number;
  /** All but embedding and head. */
  nonEmbedding: number;
  /** By tower and part; `norms` where those of the branches have towers of their own. */
  towers: Record<string, Record<Part, number> & { norms?: number }>;
  /** What a token of each modality meets, of experts as many as it goes to in the mean: its own towers, and embedding and head, or, of a patch, the diffusion's. */
  active: Record<string, number>;
}

/** Counts the weights of a model by place. `tensors`: those of `Model.describe`. */
export function parameterCount(config: ModelConfig, tensors: readonly TensorShape[]): ParameterCount {
  const count: ParameterCount = {
    total: 0,
    embedding: 0,
    head: 0,
    nonEmbedding: 0,
    towers: {},
    active: Object.fromEntries(config.modalities.map((modality) => [modality, 0])),
  };
  const ownNorms = hasOwnNorms(config);
  const parts: PartOrNorms[] = ownNorms ? [...PARTS, 'norms'] : [...PARTS];
  const towersByPart = Object.fromEntries(parts.map((part) => [part, towersOf(config, part)]));
  for (const { name, shape } of tensors) {
    const size = shape.reduce((product, length) => product * length, 1);
    count.total += size;
    const place = placeOf(name, ownNorms);
    if (place.part === 'embed_tokens') count.embedding += size;
    else if (place.part === 'lm_head') count.head += size;
    else count.nonEmbedding += size;
    if (place.tower !== undefined) {
      const sizes = (count.towers[place.tower] ??= {
        self_attn: 0,
        mlp: 0,
        final: 0,
        ...(ownNorms ? { norms: 0 } : {}),
      });
      sizes[place.part] = sizes[place.part]! + size;
    }
    config.modalities.forEach((modality, m) => {
      // Patches meet neither embedding nor head, and only they meet the diffusion's weights.
      const met =
        place.tower !== undefined
          ? towersByPart[place.part]![m] === place.tower
          : (place.part === 'diffusion') === (modality === config.diffusion?.modality);
      if (met) count.active[modality]! += size * (place.tower ? shareOfExpert(config, name, place.tower) : 1);
    });
  }
  return count;
}

/** The share of a modality's tokens that go to the expert of a weight; 1 for a weight that is of no expert. */
function shareOfExpert(config: ModelConfig, name: string, tower: string): number {
  const experts = config.experts?.[tower];
  if (!experts || !name.includes('.mlp.experts.')) return 1;
  return (experts.routing === 'token_choice' ? experts.top_k : experts.capacity_factor) / experts.count;
}

/** Where a weight is: part and tower, or one of the parts that have no towers. */
export type WeightPlace =
  { tower: string; part: PartOrNorms } | { tower?: undefined; part: (typeof OUTER_PARTS)[number] };

/** Tower and part of a weight. `ownNorms`: whether the norms of the branches have towers of their own. */
export function placeOf(name: string, ownNorms: boolean): WeightPlace {
  const [first, second, third, fourth] = name.split('.');
  if (first === 'norm') return { tower: second!, part: 'final' };
  if (first === 'embed_tokens' || first === 'lm_head') return { part: first };
  if (first !== 'layers') return { part: 'diffusion' };
  if (ownNorms && (fourth === 'attention_norm' || fourth === 'ffn_norm')) return { tower: third!, part: 'norms' };
  return { tower: third!, part: fourth === 'mlp' || fourth === 'ffn_norm' ? 'mlp' : 'self_attn' };
}
