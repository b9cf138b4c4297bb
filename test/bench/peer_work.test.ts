import { expect, test } from '@jest/globals';
import { peerFields, stepWork, timeBesidePeers } from '../../lib/bench/peer_work.js';
import type { Peers, PeerWork, TurnOptions } from '../../lib/bench/peers.js';
import { makeBatch } from '../../lib/bench/workload.js';
import { loadAddon } from '../../lib/native/load.js';

const times = (ms: number[], parts: Record<string, number[]> = {}) => ({ ms, parts, peak_rss_mb: 300 });

test('a case shows the medians of its peers, and why others are missing', () => {
  const results = { torch_eager: times([3, 1, 2], { forward: [0.5, 0.25, 0.75] }), openblas: { missing: 'no numpy' } };
  const rest = { peers_missing: { openblas: 'no numpy' }, peers_peak_rss_mb: { torch_eager: 300 } };
  expect(peerFields(results)).toEqual({ peers: { torch_eager: 2 }, ...rest });
  expect(peerFields(results, 'forward')).toEqual({ peers: { torch_eager: 0.5 }, ...rest });
});

test('the step of the peers has the spans of our batch', () => {
  const size = { d_model: 64, n_layers: 1, ffn_dim: 64, vocab: 32, sequences: 2, length: 512 };
  const batch = makeBatch(size, 3);
  const work = stepWork(size, 3, batch, 'bf16');
  if (work.op !== 'step') throw new Error('not a step');
  expect(work.shape.spans.flatMap(([modality, count]) => Array<number>(count).fill(modality))).toEqual([
    ...batch.modality,
  ]);
  expect(work.shape.spans.length).toBeGreaterThan(4);
  expect(work.shape).toMatchObject({ batch: 2, tokens: 512, model: { n_heads: 1, qk_norm: true, n_kv_heads: 1 } });
});

test('every timed op finds its work elsewhere, call by call; yardsticks do not compete', async () => {
  const infos = new Map(loadAddon().cases().map((info) => [info.name, info])); // prettier-ignore
  const seen: PeerWork[] = [];
  const peers = {
    async time(works: readonly PeerWork[], options: TurnOptions) {
      seen.push(...works);
      for (let turn = 0; turn < options.turns!; turn++) await options.beside!();
      return works.map((_, i) => ({ torch: times([i + 1], { forward: [10], backward: [20] }) }));
    },
  } as unknown as Peers;
  const run = async (names: string[], calls: string[]) => {
    seen.length = 0;
    const chosen = names.map((name) => infos.get(name)!);
    const ours = async (rounds: number) =>
      chosen.map(() => calls.map((call) => ({ call, flops: 1, bytes: 1, ms: new Float64Array(rounds) })));
    const { timings, fields } = await timeBesidePeers(peers, chosen, 'f32', 7, ours);
    expect(timings.every((of) => of.every(({ ms }) => ms.length >= 7))).toBe(true);
    return calls.map((call) => fields(chosen.at(-1)!, call).peers?.['torch']);
  };
  expect(await run(['grouped_gemm/bench_2048_512_2048'], ['forward', 'd_x', 'd_w'])).toEqual([1, 2, 3]);
  expect(seen[2]).toEqual({ op: 'gemm', dtype: 'f32', shape: { form: 'd_w', tokens: 2048, in: 512, out: 2048 } });
  expect(await run(['attention/bench_documents_512'], ['forward', 'backward'])).toEqual([10, 20]);
  expect(seen[0]?.shape).toEqual({ batch: 8, tokens: 512, heads: 8, kv_heads: 8, head_dim: 64 });
  const loss = ['grouped_gemm/bench_2048_512_4096', 'linear_cross_entropy/bench_2048_512_4096'];
  expect(await run(loss, ['forward', 'backward'])).toEqual([10, 1]);
  expect(seen).toHaveLength(1);
  expect(await run(['adamw/bench'], ['forward'])).toEqual([1]);
  expect(await run(['rms_norm/bench'], ['forward'])).toEqual([undefined]);
});
