import type { Command } from 'commander';
import type { PlanEntry } from '../model/model.js';
import { bytes, printJson, table } from './common.js';

interface DescribeFlags {
  json?: boolean;
  plan?: boolean;
}

/** Adds `mot describe`. */
export function registerDescribe(program: Command): void {
  program
    .command('describe')
    .description('Show the parameters of a run config, and the memory and FLOPs of training it, without training.')
    .argument('<config>', 'YAML or JSON file; see recipes/')
    .argument('[key=value...]', 'settings over those of the file')
    .option('--plan', 'every tensor of the memory plan')
    .option('--json', 'print JSON, the whole plan included')
    .addHelpText(
      'after',
      `
Examples:
  mot describe recipes/start.yaml
  mot describe recipes/start.yaml model.d_model=256 train.micro_sequences=4 --plan`,
    )
    .action((config: string, overrides: string[], flags: DescribeFlags) => describe(config, overrides, flags));
}

async function describe(path: string, overrides: string[], flags: DescribeFlags): Promise<void> {
  const { modelOfRun, readRunConfig } = await import('../config/run_config.js');
  const { Model } = await import('../model/model.js');
  const { vocabularyOf } = await import('../train/prepared.js');
  const { modelOptions } = await import('../train/run.js');
  const { CHECKPOINTING } = await import('../config/checkpointing.js');
  const { flopsPerToken } = await import('../model/flops.js');
  const config = readRunConfig(path, overrides);
  const options = modelOptions(config);
  const described = Model.describe(modelOfRun(config, vocabularyOf(config)), options);
  const { config: model, tensors, plan, arenaBytes } = described;
  const parameters = { total: described.parameters, embeddings: 0, towers: {} as Record<string, number> };
  for (const { name, shape } of tensors) {
    const count = shape.reduce((product, size) => product * size, 1);
    const tower = /^layers\.\d+\.([^.]+)\./.exec(name)?.[1] ?? /^norm\.([^.]+)\./.exec(name)?.[1];
    if (tower === undefined) parameters.embeddings += count;
    else parameters.towers[tower] = (parameters.towers[tower] ?? 0) + count;
  }
  const memory: Record<string, number> = {};
  for (const { group, bytes: size } of plan) memory[group] = (memory[group] ?? 0) + size;
  // As if every packed sequence were one document: at most this much attention.
  const flops = flopsPerToken(model, (config.train.seq_len + 1) / 2);
  const step = flops.forward + flops.backward;
  const checkpointing = CHECKPOINTING.map((mode) => ({
    mode,
    arenaBytes: Model.describe(model, { ...options, checkpointing: mode }).arenaBytes,
    extraFlops: flops.again[mode] / step,
  }));
  if (flags.json) {
    printJson({ model, parameters, flops, memory, arenaBytes, checkpointing, plan });
    return;
  }
  const number = (count: number): string => count.toLocaleString('en');
  const lines = [
    'Parameters',
    table(
      [
        ['  embedding and head', parameters.embeddings],
        ...Object.entries(parameters.towers).map(([tower, count]): [string, number] => [`  tower ${tower}`, count]),
        ['  in all', parameters.total],
      ].map(([label, count]) => [label!, number(count as number).padStart(15)]),
    ),
    '',
    `Memory of training with ${config.train.micro_sequences} x ${config.train.seq_len} tokens at once, ${config.train.dtype}`,
    table([
      ...Object.entries(memory).map(([group, size]) => [`  ${group}`, bytes(size).padStart(10)]),
      ['  in all, where lifetimes overlap', bytes(arenaBytes).padStart(10)],
    ]),
    '',
    `A token takes ${(flops.forward / 1e6).toFixed(1)} MFLOP forward and ${(flops.backward / 1e6).toFixed(1)} backward`,
    '',
    'Memory and work by train.checkpointing',
    table(
      checkpointing.map(({ mode, arenaBytes: size, extraFlops }) => [
        `  ${mode}${mode === config.train.checkpointing ? ' (set)' : ''}`,
        bytes(size).padStart(10),
        extraFlops === 0 ? '' : `+ ${(100 * extraFlops).toFixed(0)} % FLOPs`,
      ]),
    ),
  ];
  if (flags.plan) lines.push('', planTable(plan));
  process.stdout.write(`${lines.join('\n')}\n`);
}

function planTable(plan: readonly PlanEntry[]): string {
  const rows = plan.map(({ name, group, dtype, shape, bytes: size, offset }) => [
    `  ${name}`,
    group,
    dtype,
    `[${shape.join(', ')}]`,
    bytes(size),
    offset,
  ]);
  return table([['  tensor', 'group', 'dtype', 'shape', 'size', 'offset'], ...rows]);
}
