import { parseModelConfig } from '../config/model_config.js';
import type { Batch } from '../model/batch.js';
import type { NativeCallTiming, NativeCaseInfo } from '../native/types.js';
import type { Peers, PeerResults, PeerWork } from './peers.js';
import { median } from './statistics.js';
import type { BenchCase, Dtype } from './types.js';
import { modelConfig, type ModelSize } from './workload.js';

/** What a case says of its peers. */
export type PeerFields = Pick<BenchCase, 'peers' | 'peers_missing' | 'peers_peak_rss_mb'>;

/** Elements of a tensor of a model that the peers' optimizer is given: 1024 x 1024. */
const TENSOR = 2 ** 20;

/** The fields of a case, from the total times or from those of a part. */
export function peerFields(results: PeerResults, part?: string): PeerFields {
  const missing: Record<string, string> = {};
  const fields: Required<Omit<PeerFields, 'peers_missing'>> = { peers: {}, peers_peak_rss_mb: {} };
  for (const [name, result] of Object.entries(results)) {
    if ('missing' in result) {
      missing[name] = result.missing;
      continue;
    }
    fields.peers[name] = median(part === undefined ? result.ms : (result.parts[part] ?? []));
    fields.peers_peak_rss_mb[name] = result.peak_rss_mb;
  }
  return Object.keys(missing).length > 0 ? { ...fields, peers_missing: missing } : fields;
}

/**
 * Times native cases in turns with the peers that do the same work: three turns, each with its share of the rounds.
 *
 * @param ours Times `rounds` rounds of the cases.
 * @returns The times of ours, and what each call of a case says of its peers.
 */
export async function timeBesidePeers(
  peers: Peers,
  infos: readonly NativeCaseInfo[],
  dtype: Dtype,
  rounds: number,
  ours: (rounds: number) => Promise<NativeCallTiming[][]>,
): Promise<{ timings: NativeCallTiming[][]; fields: (info: NativeCaseInfo, call: string) => PeerFields }> {
  // A product beside another case is only a yardstick.
  const works = infos
    .filter(({ op }) => infos.length === 1 || op !== 'grouped_gemm')
    .flatMap((info) => opWorks(info, dtype).map((one) => ({ ...one, info })));
  const turns = Math.min(3, rounds);
  const repeats = Math.ceil(rounds / turns);
  let timings: NativeCallTiming[][] = [];
  const beside = async (): Promise<void> => {
    const more = await ours(repeats);
    timings =
      timings.length === 0 ? more : timings.map((calls, i) => calls.map((call, j) => joined(call, more[i]![j]!)));
  };
  if (works.length === 0) return { timings: await ours(rounds), fields: () => ({}) };
  const options = { turns, repeats, beside };
  const results = await peers.time(
    works.map(({ work }) => work),
    options,
  );
  const fields = (info: NativeCaseInfo, call: string): PeerFields => {
    const found = works.findIndex((one) => one.info === info && call in one.parts);
    return found < 0 ? {} : peerFields(results[found]!, works[found]!.parts[call]);
  };
  return { timings, fields };
}

function joined(a: NativeCallTiming, b: NativeCallTiming): NativeCallTiming {
  return { ...a, ms: Float64Array.from([...a.ms, ...b.ms]) };
}

/** The works of others that equal the calls of a native case; `parts`: which of their times is that of a call. */
function opWorks(
  { op, shape, groups }: NativeCaseInfo,
  dtype: Dtype,
): { work: PeerWork; parts: Record<string, string | undefined> }[] {
  const size = (name: string): number => shape[name] ?? 0;
  switch (op) {
    case 'grouped_gemm': {
      if (groups.length > 1) return [];
      const sizes = { tokens: size('rows'), in: size('in_features'), out: size('out_features') };
      return (['forward', 'd_x', 'd_w'] as const).map((form) => ({
        work: { op: 'gemm', dtype, shape: { form, ...sizes } },
        parts: { [form]: undefined },
      }));
    }
    case 'attention': {
      // Documents of one length as a batch: SDPA then needs no mask, which is how it is fastest.
      const batch = size('documents');
      const heads = { heads: size('heads'), kv_heads: size('kv_heads'), head_dim: size('head_dim') };
      return [
        {
          work: { op: 'attention', dtype, shape: { batch, tokens: size('slots') / batch, ...heads } },
          parts: { forward: 'forward', backward: 'backward' },
        },
      ];
    }
    case 'linear_cross_entropy':
      return [
        {
          work: { op: 'loss', dtype, shape: { tokens: size('rows'), width: size('d_model'), vocab: size('vocab') } },
          // Our backward computes loss and gradients.
          parts: { forward: 'forward', backward: undefined },
        },
      ];
    case 'adamw':
    case 'grad_norm': {
      const elements = size('elements');
      const sizes = Array.from({ length: Math.ceil(elements / TENSOR) }, (_, i) =>
        Math.min(TENSOR, elements - i * TENSOR),
      );
      const work: PeerWork = { op: op === 'adamw' ? 'optimizer' : op, dtype, shape: { sizes } };
      return [{ work, parts: { forward: undefined } }];
    }
    default:
      return [];
  }
}

/** The step of `makeBatch(size, modalities)` on `modelConfig(size, modalities)`. */
export function stepWork(size: ModelSize, modalities: number, batch: Batch, dtype: Dtype): PeerWork {
  const spans: [modality: number, tokens: number][] = [];
  for (const modality of batch.modality) {
    const last = spans.at(-1);
    if (last?.[0] === modality) last[1]++;
    else spans.push([modality, 1]);
  }
  const model = parseModelConfig(modelConfig(size, modalities));
  return { op: 'step', dtype, shape: { model, batch: size.sequences, tokens: size.length, spans } };
}
