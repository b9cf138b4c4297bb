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
    .description('Show the parameters of a run config and the memory that training it takes, without training.')
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
  const config = readRunConfig(path, overrides);
  const described = Model.describe(modelOfRun(config, vocabularyOf(config)), modelOptions(config));
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
  if (flags.json) {
    printJson({ model, parameters, memory, arenaBytes, plan });
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
