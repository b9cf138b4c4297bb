import { Model } from '../model/model.js';
import type { StepMemory } from './child.js';
import { inChild } from './in_child.js';
import { peerFields, stepWork, type PeerFields } from './peer_work.js';
import type { PeerResults } from './peers.js';
import { timePreset } from './preset.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext, Dtype } from './types.js';
import { makeBatch, modelConfig, shapeOf, stepFlops, STEP_SIZES, type ModelSize } from './workload.js';

interface Contender {
  label: string;
  modalities: number;
  experts: number;
}

/** Dense first: the others are held against it. */
const CONTENDERS: readonly Contender[] = [
  { label: 'dense', modalities: 1, experts: 0 },
  { label: 'MoT 2', modalities: 2, experts: 0 },
  { label: 'MoT 3', modalities: 3, experts: 0 },
  { label: 'MoE 4x', modalities: 1, experts: 4 },
];
const ROUNDS = 5;

/** First the rounds in which all contenders took turns, then those in turn with the peers. */
interface Times {
  gradients: number[];
  optimizer: number[];
  peers?: PeerResults;
}

/** Suite `step`: every size and number format; or a preset. */
export async function stepSuite(context: BenchContext): Promise<BenchCase[]> {
  return context.preset ? timePreset(context, context.preset) : timeSteps(context, STEP_SIZES);
}

/** Steps of the given models; the contenders of a size take turns in every round. */
export async function timeSteps(context: BenchContext, sizes: readonly ModelSize[]): Promise<BenchCase[]> {
  const cases: BenchCase[] = [];
  for (const size of sizes)
    for (const dtype of context.dtypes) {
      await context.progress(`step d ${size.d_model} ${dtype}`);
      const times = await timeContenders(context, size, dtype);
      CONTENDERS.forEach((contender, i) =>
        cases.push(...casesOf(context, size, dtype, contender, times[i]!, times[0]!)),
      );
    }
  return cases;
}

async function timeContenders(context: BenchContext, size: ModelSize, dtype: Dtype): Promise<Times[]> {
  const tokens = size.sequences * size.length;
  const models: Model[] = [];
  try {
    for (const { modalities, experts } of CONTENDERS)
      models.push(
        await Model.create(modelConfig(size, modalities, experts), { tokens, dtype, threads: context.threads }),
      );
    const batches = CONTENDERS.map(({ modalities }) => makeBatch(size, modalities));
    const times = CONTENDERS.map((): Times => ({ gradients: [], optimizer: [] }));
    const steps = CONTENDERS.map(() => 0);
    const timeStep = async (i: number): Promise<void> => {
      const begin = performance.now();
      await models[i]!.zeroGradients();
      await models[i]!.backward(batches[i]!);
      const middle = performance.now();
      await models[i]!.adamw({ lr: 1e-4, step: ++steps[i]! });
      const end = performance.now();
      if (steps[i] === 1) return; // touches the memory
      times[i]!.gradients.push(middle - begin);
      times[i]!.optimizer.push(end - middle);
    };
    const rounds = context.repeats(ROUNDS);
    for (let round = 0; round <= rounds; round++) for (const i of models.keys()) await timeStep(i);
    if (context.peers)
      for (const [i, { modalities, experts }] of CONTENDERS.entries()) {
        if (experts > 0) continue; // the peers' step has no experts
        const work = stepWork(size, modalities, batches[i]!, dtype);
        const [peers] = await context.peers.time([work], { turns: rounds, repeats: 1, beside: () => timeStep(i) });
        times[i]!.peers = peers!;
      }
    return times;
  } finally {
    for (const model of models) await model.dispose();
  }
}

function casesOf(
  { threads, repeats }: BenchContext,
  size: ModelSize,
  dtype: Dtype,
  { label: name, modalities, experts }: Contender,
  times: Times,
  dense: Times,
): BenchCase[] {
  const config = modelConfig(size, modalities, experts);
  const label = `${name}, d ${size.d_model}, ${size.n_layers} layers`;
  const tokens = size.sequences * size.length;
  const flops = stepFlops(config, makeBatch(size, modalities));
  const { parameters } = Model.describe(config, { tokens, dtype, threads });
  const memory = inChild<StepMemory>(
    'step',
    dtype,
    String(threads),
    String(modalities),
    String(experts),
    JSON.stringify(size),
  );
  const gradients = summarize(times.gradients);
  const optimizer = summarize(times.optimizer);
  const peers = (part: string): PeerFields => (times.peers ? peerFields(times.peers, part) : {});
  const shape = shapeOf(size, modalities, experts);
  const rounds = repeats(ROUNDS);
  const ratio = (which: 'gradients' | 'optimizer'): { ratio_to_dense?: number } =>
    times === dense
      ? {}
      : { ratio_to_dense: medianRatio(times[which].slice(0, rounds), dense[which].slice(0, rounds)) };
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
      ...peers('forward_backward'),
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
      ...peers('optimizer'),
    },
  ];
}
