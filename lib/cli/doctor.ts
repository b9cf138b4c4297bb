import type { Command } from 'commander';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findDataPackages } from '../data/emoji/packages.js';
import { machineMemory } from '../machine.js';
import { packageRoot, packageVersion } from '../package.js';
import { bytes } from '../units.js';
import { printJson, table } from './common.js';

/** Adds `mot doctor`. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('Say what this machine offers and what is used of it, and whether a job fits it.')
    .argument('[what]', 'a config, preset or run that is to be trained here')
    .argument('[key=value...]', 'settings over those')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  mot doctor\n  MOT_ISA=avx2 mot doctor\n  mot doctor recipes/start.yaml')
    .action((what: string | undefined, overrides: string[], options: { json?: boolean }) =>
      doctor(what, overrides, options.json ?? false),
    );
}

async function doctor(what: string | undefined, overrides: string[], json: boolean): Promise<void> {
  const { loadAddon } = await import('../native/load.js');
  const facts: Record<string, string | number | string[]> = {
    package: packageVersion(),
    folder: packageRoot(),
    node: process.version,
    system: `${process.platform} ${process.arch}`,
  };
  const { limit, available } = machineMemory();
  if (json) Object.assign(facts, { memory: limit, memory_available: available });
  else facts['memory'] = `${bytes(limit)}, of it ${bytes(available)} available`;
  let failure: unknown;
  try {
    const cpu = loadAddon().cpu();
    Object.assign(facts, { addon: addonPath(), threads: cpu.threads, available: cpu.available });
    facts['instructions'] = cpu.error ?? cpu.variant;
  } catch (error) {
    failure = error;
    facts['addon'] = `not loaded: ${(error as Error).message}`;
  }
  facts['gpu'] = 'none used: this version computes on the CPU only';
  Object.assign(facts, optionalParts());
  // What does not fit is told, but no failure of this machine.
  const warnings = what === undefined || failure !== undefined ? [] : await warningsOf(what, overrides);
  if (what !== undefined && failure === undefined)
    facts['job'] = json ? warnings : warnings.length === 0 ? `${what} fits` : `${what} does not fit, see below`;
  if (json) printJson(facts);
  else process.stdout.write(`${table(Object.entries(facts).map(([name, fact]) => [name, String(fact)]))}\n`);
  if (!json) for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
  if (failure !== undefined) process.exitCode = 1;
}

/** What some commands need and the package does not bring. */
function optionalParts(): Record<string, string> {
  let emoji = 'can be prepared: its packages are here';
  try {
    findDataPackages();
  } catch (error) {
    emoji = (error as Error).message;
  }
  const lookups = [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json'))].map((at) => createRequire(at));
  const found = lookups.some((lookup) => {
    try {
      lookup.resolve('onnxruntime-node');
      return true;
    } catch {
      return false;
    }
  });
  return {
    'embedded data': emoji,
    onnx: found
      ? 'onnxruntime-node is here'
      : 'onnxruntime-node is absent, which only modules with ONNX models need: npm install onnxruntime-node',
  };
}

async function warningsOf(what: string, overrides: string[]): Promise<string[]> {
  const { readJob } = await import('./describe.js');
  const { Model } = await import('../model/model.js');
  const { modelOptions } = await import('../train/run.js');
  const { resourceWarnings } = await import('../train/resources.js');
  const { config, model } = await readJob(what, overrides);
  return resourceWarnings(config, Model.describe(model, modelOptions(config)));
}

/** Where the loaded addon lies: the process knows its shared libraries. */
function addonPath(): string {
  const { sharedObjects = [] } = (process.report?.getReport() ?? {}) as { sharedObjects?: string[] };
  return sharedObjects.find((path) => path.endsWith('mot.node')) ?? 'loaded';
}
