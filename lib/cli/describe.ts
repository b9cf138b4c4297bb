import type { Command } from 'commander';
import { PARTS, towersOf, type ModelConfig } from '../config/model_config.js';
import type { RunConfig } from '../config/run_config.js';
import type { MachineMemory } from '../machine.js';
import type { Fit, TrainingMemory } from '../model/fit.js';
import type { TokenFlops } from '../model/flops.js';
import type { PlanEntry } from '../model/model.js';
import type { ParameterCount } from '../model/parameters.js';
import { bytes, printJson, table } from './common.js';

interface DescribeFlags {
  json?: boolean;
  plan?: boolean;
}

/** Adds `mot describe`. */
export function registerDescribe(program: Command): void {
  program
    .command('describe')
    .description(
      'Show parameters, FLOPs and memory of a preset, a config or a run, without training; or list the presets.',
    )
    .argument('[what]', 'a preset; a YAML or JSON file, see recipes/; or a run folder. Without it: lists the presets')
    .argument('[key=value...]', 'settings over those')
    .option('--plan', 'every tensor of the memory plan')
    .option('--json', 'print JSON, the whole plan included')
    .addHelpText(
      'after',
      `
A preset is a setting and a size of the paper, or one that fits the embedded data, and what towers it has:
chameleon-443m-mot, chameleon-443m-dense. In a config, model.preset and train.preset stand for its keys.

Examples:
  mot describe
  mot describe chameleon-443m-mot train.seq_len=1024
  mot describe recipes/start.yaml model.d_model=256 train.micro_sequences=4 --plan`,
    )
    .action((what: string | undefined, overrides: string[], flags: DescribeFlags) =>
      what === undefined ? listPresets(flags.json ?? false) : describe(what, overrides, flags),
    );
}

async function listPresets(json: boolean): Promise<void> {
  const { findPreset, PRESET_VARIANTS, PRESETS } = await import('../config/presets.js');
  const presets = PRESETS.map((name) => findPreset(name)!);
  if (json) {
    printJson(
      presets.map(({ name, about, model, train }) => ({ name, about, variants: PRESET_VARIANTS, model, train })),
    );
    return;
  }
  const rows = presets.map(({ name, model, train }) => [
    name,
    `${model.d_model} / ${model.n_layers} / ${model.n_heads}`,
    number(train.sequences! * train.seq_len!),
    number(train.steps!),
  ]);
  const settings = [...new Map(presets.map(({ name, about }) => [name.slice(0, name.lastIndexOf('-')), about]))];
  const lines = [
    table([['preset', 'd / layers / heads', 'tokens a step', 'steps'], ...rows], { figures: true }),
    '',
    table(settings.map(([setting, about]) => [`${setting}-*`, about])),
    '',
    `Each with ${PRESET_VARIANTS.map((variant) => `-${variant}`).join(', ')} after its name; without, it is -mot.`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** A preset, a run folder or a config file, with the model's ids and modalities. */
async function read(what: string, overrides: string[]): Promise<{ config: RunConfig; model: ModelConfig }> {
  const { existsSync, statSync } = await import('node:fs');
  const { join } = await import('node:path');
  const { findPreset, presetHint } = await import('../config/presets.js');
  const { modelOfRun, readPreset, readRunConfig } = await import('../config/run_config.js');
  const { vocabularyOf } = await import('../train/prepared.js');
  const { CONFIG_FILE } = await import('../train/run_folder.js');
  const { MotError } = await import('../errors.js');
  const preset = findPreset(what);
  if (preset) {
    const config = readPreset(what, overrides);
    const { vocab, modalities } = preset.model;
    if (vocab === undefined || modalities === undefined)
      return { config, model: modelOfRun(config, vocabularyOf(config)) };
    return { config, model: modelOfRun(config, { size: vocab, modalities: [...modalities] }) };
  }
  if (!existsSync(what) && !/[./\\]/.test(what))
    throw new MotError('ERR_FILE_OPEN', `${what} is no preset, file or run folder; ${presetHint(what)}.`);
  const folder = existsSync(what) && statSync(what).isDirectory();
  const config = readRunConfig(folder ? join(what, CONFIG_FILE) : what, overrides);
  return { config, model: modelOfRun(config, vocabularyOf(config)) };
}

async function describe(what: string, overrides: string[], flags: DescribeFlags): Promise<void> {
  const { Model } = await import('../model/model.js');
  const { modelOptions } = await import('../train/run.js');
  const { flopsPerToken } = await import('../model/flops.js');
  const { trainingMemory } = await import('../model/fit.js');
  const { parameterCount } = await import('../model/parameters.js');
  const { machineMemory } = await import('../machine.js');
  const { config, model } = await read(what, overrides);
  const { train } = config;
  const { tensors, plan, arenaBytes } = Model.describe(model, modelOptions(config));
  const parameters = parameterCount(model, tensors);
  // As if every packed sequence were one document: at most this much attention.
  const flops = flopsPerToken(model, (train.seq_len + 1) / 2);
  const machine = machineMemory();
  const shape = { sequences: train.micro_sequences, length: train.seq_len };
  const memory = trainingMemory(model, shape, machine);
  if (flags.json) {
    printJson({ model, train, parameters, flops, machine, arenaBytes, memory, plan });
    return;
  }
  const lines = [
    ...settings(what, model, train),
    '',
    ...parameterLines(model, parameters),
    '',
    `A token takes ${mega(flops.forward)} MFLOP forward and ${mega(flops.backward)} backward, in documents of ${number(train.seq_len)} tokens`,
    '',
    ...memoryLines(train, memory, flops, machine),
  ];
  if (flags.plan) lines.push('', planTable(plan));
  process.stdout.write(`${lines.join('\n')}\n`);
}

function settings(what: string, model: ModelConfig, train: RunConfig['train']): string[] {
  const { d_model, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, vocab, modalities } = model;
  const heads = n_kv_heads === n_heads ? `${n_heads}` : `${n_heads} (keys and values: ${n_kv_heads})`;
  const { lr, schedule, min_lr_ratio, warmup_steps, beta1, beta2, eps, weight_decay, clip } = train;
  const end = schedule === 'constant' ? '' : ` to ${short(lr * min_lr_ratio)}`;
  return [
    what,
    table([
      ['  model', `d_model ${d_model}, ${n_layers} layers, ${heads} heads of ${head_dim}, feed-forward ${ffn_dim}`],
      ['  tokens', `${number(vocab)} ids; ${modalities.join(', ')}`],
      [
        '  training',
        `${number(train.steps)} steps of ${train.sequences} x ${train.seq_len} tokens, ${train.micro_sequences} at once`,
      ],
      ['  rate', `${warmup_steps} steps of warm-up to ${short(lr)}, ${schedule}${end}`],
      ['  AdamW', `betas ${beta1}, ${beta2}, eps ${short(eps)}, weight decay ${weight_decay}, clip ${clip}`],
    ]),
  ];
}

function parameterLines(model: ModelConfig, count: ParameterCount): string[] {
  // A tower may serve other modalities in one part than in another.
  const serves = (tower: string): string => {
    const byPart = PARTS.map((part) =>
      model.modalities.filter((_, m) => towersOf(model, part)[m] === tower).join(', '),
    );
    const [first, ...others] = [...new Set(byPart.filter((names) => names !== ''))];
    return others.length > 0 || first === tower ? tower : `${tower} (${first})`;
  };
  const cells = (size: number): string => (size === 0 ? '-' : number(size));
  const towers = Object.entries(count.towers).map(([tower, parts]) => [
    `  ${serves(tower)}`,
    ...PARTS.map((part) => cells(parts[part])),
  ]);
  return [
    table([['Parameters by tower', ...PARTS], ...towers], { figures: true }),
    '',
    table(
      [
        ['  embedding', count.embedding],
        ['  output head', count.head],
        ['  without these', count.nonEmbedding],
        ['  in all', count.total],
        ...Object.entries(count.active).map(([modality, size]): [string, number] => [`  active for ${modality}`, size]),
      ].map(([label, size]) => [label!, number(size as number)]),
      { figures: true },
    ),
  ];
}

function memoryLines(
  train: RunConfig['train'],
  memory: readonly TrainingMemory[],
  flops: TokenFlops,
  machine: MachineMemory,
): string[] {
  const groups = [...new Set(memory.flatMap((way) => Object.keys(way.groups)))];
  const step = flops.forward + flops.backward;
  const chosen = ({ dtype, checkpointing }: TrainingMemory): boolean =>
    dtype === train.dtype && checkpointing === train.checkpointing;
  // Sequences at once, or how much of one.
  const fit = ({ sequences, length }: Fit): string =>
    length === train.seq_len ? number(sequences) : sequences === 0 ? 'none' : `${number(length)} tokens`;
  const rows = [
    ['', ...memory.map(({ dtype }) => dtype)],
    ['  train.checkpointing', ...memory.map((way) => `${way.checkpointing}${chosen(way) ? '*' : ''}`)],
    ...groups.map((group) => [`  ${group}`, ...memory.map((way) => bytes(way.groups[group] ?? 0))]),
    ['  in all (lifetimes overlap)', ...memory.map((way) => bytes(way.arenaBytes))],
    ['  FLOPs', ...memory.map((way) => `+ ${((100 * flops.again[way.checkpointing]) / step).toFixed(0)} %`)],
    [`  sequences in ${bytes(machine.limit)}`, ...memory.map((way) => fit(way.fits))],
  ];
  return [
    `Memory of training with ${train.micro_sequences} x ${train.seq_len} tokens at once (* as set), and how many fit this machine`,
    table(rows, { figures: true }),
  ];
}

function number(count: number): string {
  return count.toLocaleString('en');
}

function mega(count: number): string {
  return (count / 1e6).toFixed(1);
}

/** At most three digits. */
function short(value: number): string {
  return String(Number(value.toPrecision(3)));
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
