import type { Command } from 'commander';
import { machineMemory } from '../machine.js';
import { packageRoot, packageVersion } from '../package.js';
import { bytes, printJson, table } from './common.js';

/** Adds `mot doctor`. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('Say what this machine offers and what is used of it.')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  mot doctor\n  MOT_ISA=avx2 mot doctor')
    .action((options: { json?: boolean }) => doctor(options.json ?? false));
}

async function doctor(json: boolean): Promise<void> {
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
  if (json) printJson(facts);
  else process.stdout.write(`${table(Object.entries(facts).map(([name, fact]) => [name, String(fact)]))}\n`);
  if (failure !== undefined) process.exitCode = 1;
}

/** Where the loaded addon lies: the process knows its shared libraries. */
function addonPath(): string {
  const { sharedObjects = [] } = (process.report?.getReport() ?? {}) as { sharedObjects?: string[] };
  return sharedObjects.find((path) => path.endsWith('mot.node')) ?? 'loaded';
}
