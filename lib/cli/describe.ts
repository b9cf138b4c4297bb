import type { Command } from 'commander';
import { MotError } from '../errors.js';
import type { NativePlanEntry } from '../native/types.js';
import { act, bytes, printJson, table } from './common.js';

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
    .action((config: string, overrides: string[], flags: DescribeFlags) => act(() => describe(config, overrides, flags)));
}

async function describe(path: string, overrides: string[], flags: DescribeFlags): Promise<void> {
  const { readRunConfig } = await import('../config/run_config.js');
  const { describeRun } = await import('../train/run.js');
  const config = readRunConfig(path, overrides);
  const { model, tensors, plan, arenaBytes } = await describeRun(config);
  const elements = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
  const parameters = { total: 0, embeddings: 0, towers: {} as Record<string, number> };
  for (const { name, shape } of tensors) {
    const count = elements(shape);
    const tower = /^layers\.\d+\.([^.]+)\./.exec(name)?.[1] ?? /^norm\.([^.]+)\./.exec(name)?.[1];
    parameters.total += count;
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

function planTable(plan: readonly NativePlanEntry[]): string {
  if (plan.length === 0) throw new MotError('ERR_INTERNAL', 'the memory plan is empty.');
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
