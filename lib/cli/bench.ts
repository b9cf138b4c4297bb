import type { Command } from 'commander';
import { dirname } from 'node:path';
import { SUITES } from '../bench/suites.js';
import type { BenchResult } from '../bench/types.js';
import { MotError } from '../errors.js';
import { oneOf, printJson, table, wholeNumber } from './common.js';

interface BenchFlags {
  json?: boolean;
  out?: string;
  threads?: number;
  dtype?: 'f32' | 'bf16';
  repeats?: number;
  peers?: boolean;
  preset?: string;
  tokens?: number;
}

/** Adds `mot bench`. */
export function registerBench(program: Command): void {
  const suites = table(Object.entries(SUITES).map(([name, { about }]) => [`  ${name}`, about]));
  program
    .command('bench')
    .description('Time kernels, training steps, loading, saving and decoding, beside what the processor can do.')
    .argument('<suite...>', 'suites by name; `all` runs every one')
    .option('--json', 'print JSON; of several suites an array')
    .option('--out <file>', 'write the JSON to a file; the table is printed unless --json is given')
    .option('--threads <n>', 'default 0: as many as this process may use', wholeNumber('--threads', 0))
    .option('--dtype <dtype>', 'f32 or bf16; default both', oneOf('--dtype', ['f32', 'bf16'] as const))
    .option('--repeats <n>', 'rounds of every case', wholeNumber('--repeats', 1))
    .option('--peers', 'time PyTorch, oneDNN and OpenBLAS on the same work (MOT_PYTHON: a Python with torch)')
    .option('--preset <name>', 'suite step: time steps of this preset (mot describe lists them)')
    .option('--tokens <n>', 'of the one sequence of such a step; default 256', wholeNumber('--tokens', 1))
    .addHelpText(
      'after',
      `
Suites:
${suites}

Ratios are to the dense contender; of the loss to a matrix product, of recompute to a step that keeps
everything, of node-addon-api to nan. "limit" is the share of what the processor can do, measured in the
same run. benchmarks/README.md says how to read it.

Examples:
  mot bench gemm attention
  mot bench step --dtype bf16 --threads 2
  mot bench step --preset chameleon-443m-mot --tokens 256 --dtype bf16
  mot bench all --out benchmarks/results/DATE-MACHINE.json`,
    )
    .action((suites: string[], flags: BenchFlags) => bench(suites, flags));
}

async function bench(names: string[], flags: BenchFlags): Promise<void> {
  const { runSuites } = await import('../bench/run.js');
  const { benchTable } = await import('../bench/table.js');
  const { makeFolder, writeFileAtomic } = await import('../io/files.js');
  const { json, out, preset, tokens, ...options } = flags;
  if (preset === undefined && tokens !== undefined)
    throw new MotError('ERR_USAGE', '--tokens belongs to --preset: mot bench step --preset NAME --tokens N.');
  const suites = names.includes('all') ? Object.keys(SUITES) : names;
  if (out !== undefined) makeFolder(dirname(out)); // told now rather than after an hour
  const results: BenchResult[] = [];
  const clear = process.stderr.isTTY ? '\r\x1b[K' : '';
  await runSuites(suites, {
    ...options,
    ...(preset === undefined ? {} : { preset: { name: preset, tokens: tokens ?? 256 } }),
    progress: (what) => void (clear && process.stderr.write(`${clear}${what} ...`)),
    onResult(result) {
      results.push(result);
      process.stderr.write(clear);
      if (out !== undefined) writeFileAtomic(out, `${JSON.stringify(shown(results), null, 2)}\n`);
      if (!json) process.stdout.write(`${benchTable(result)}\n\n`);
    },
  });
  if (json) printJson(shown(results));
}

/** One result as itself, several as an array. */
function shown(results: BenchResult[]): BenchResult | BenchResult[] {
  return results.length === 1 ? results[0]! : results;
}
