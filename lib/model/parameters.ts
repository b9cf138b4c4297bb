import { hasOwnNorms, PARTS, towersOf, type ModelConfig, type Part, type PartOrNorms } from '../config/model_config.js';
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

const EMBEDDING = 'embed_tokens.weight';
const HEAD = 'lm_head.weight';

/** Weights that patches do not meet; those of diffusion (patches in and out, timesteps) only patches do. */
const OF_TOKENS: ReadonlySet<string> = new Set([EMBEDDING, HEAD]);

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
    if (name === EMBEDDING) count.embedding += size;
    else if (name === HEAD) count.head += size;
    else count.nonEmbedding += size;
    if (place) {
      const sizes = (count.towers[place.tower] ??= {
        self_attn: 0,
        mlp: 0,
        final: 0,
        ...(ownNorms ? { norms: 0 } : {}),
      });
      sizes[place.part] = sizes[place.part]! + size;
    }
    config.modalities.forEach((modality, m) => {
      const met = place
        ? towersByPart[place.part]![m] === place.tower
        : OF_TOKENS.has(name) === (modality !== config.diffusion?.modality);
      if (met) count.active[modality]! += size * (place ? shareOfExpert(config, name, place.tower) : 1);
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

/** Tower and part of a weight; undefined for those outside layers. Norms of a branch may have towers of their own. */
function placeOf(name: string, ownNorms: boolean): { tower: string; part: PartOrNorms } | undefined {
  const [first, second, third, fourth] = name.split('.');
  if (first === 'norm') return { tower: second!, part: 'final' };
  if (first !== 'layers') return undefined;
  if (ownNorms && (fourth === 'attention_norm' || fourth === 'ffn_norm')) return { tower: third!, part: 'norms' };
  return { tower: third!, part: fourth === 'mlp' || fourth === 'ffn_norm' ? 'mlp' : 'self_attn' };
}
