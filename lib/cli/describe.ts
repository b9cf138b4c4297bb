import type { Command } from 'commander';
import type { ModelConfig } from '../config/model_config.js';
import type { RunConfig } from '../config/run_config.js';
import { printJson } from './common.js';

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
chameleon-443m-mot, -dense, -moe-4x (four experts) or -hybrid (experts for text alone). In a config, model.preset
and train.preset stand for its keys.

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
  const { presetLines } = await import('./describe_text.js');
  process.stdout.write(`${presetLines(presets, PRESET_VARIANTS).join('\n')}\n`);
}

/** A preset, a run folder or a config file, with the model's ids and modalities. */
export async function readJob(what: string, overrides: string[]): Promise<{ config: RunConfig; model: ModelConfig }> {
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
    const { vocab, modalities, diffusion } = preset.model;
    if (vocab === undefined || modalities === undefined)
      return { config, model: modelOfRun(config, vocabularyOf(config)) };
    const continuous = diffusion ? { [diffusion.modality!]: diffusion.patch_dim } : {};
    return { config, model: modelOfRun(config, { size: vocab, modalities: [...modalities], continuous }) };
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
  const { lrScales } = await import('../train/rates.js');
  const { machineMemory } = await import('../machine.js');
  const { resourceWarnings } = await import('../train/resources.js');
  const { config, model } = await readJob(what, overrides);
  const { train } = config;
  const size = Model.describe(model, modelOptions(config));
  const { tensors, plan, arenaBytes } = size;
  if (train.rates) lrScales(model, tensors, train.rates, { what: 'train.rates', code: 'ERR_CONFIG' });
  const parameters = parameterCount(model, tensors);
  // As if every packed sequence were one document: at most this much attention.
  const flops = flopsPerToken(model, (train.seq_len + 1) / 2);
  const machine = machineMemory();
  const shape = { sequences: train.micro_sequences, length: train.seq_len };
  const memory = trainingMemory(model, shape, machine, { ema: train.ema_decay !== undefined });
  const warnings = resourceWarnings(config, size);
  if (flags.json) {
    printJson({ model, train, parameters, flops, machine, arenaBytes, memory, warnings, plan });
    return;
  }
  const { descriptionLines } = await import('./describe_text.js');
  const lines = descriptionLines({
    what,
    model,
    train,
    parameters,
    flops,
    machine,
    memory,
    ...(flags.plan ? { plan } : {}),
  });
  process.stdout.write(`${lines.join('\n')}\n`);
  for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
}
