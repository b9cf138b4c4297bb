import type { Command } from 'commander';
import type { ModelSummary } from '../compare/run.js';
import { MotError } from '../errors.js';
import { printJson, table } from './common.js';
import { stopOnSignals } from './signals.js';

interface CompareFlags {
  report?: string;
  json?: boolean;
}

/** Adds `mot compare`. */
export function registerCompare(program: Command): void {
  program
    .command('compare')
    .description('Train models side by side on the same data, and tell what fraction of the baseline each needs.')
    .argument('[config]', 'YAML or JSON file: a run config with `compare`; see recipes/compare-*.yaml')
    .argument('[key=value...]', 'settings over those of the file')
    .option('--report <dir>', 'train nothing: write results.json and compare.html of the finished runs anew')
    .option('--json', 'print results.json')
    .addHelpText(
      'after',
      `
Runs are trained one after the other into OUT/MODEL-seedSEED. Ctrl-C finishes the step and saves; the same command goes
on where it stopped. At the end results.json and compare.html are in OUT: for every modality, on training, validation and
held-out loss, the fraction of the baseline's steps, FLOPs and seconds, with intervals.

Examples:
  mot compare recipes/compare-speech.yaml
  mot compare recipes/compare-speech.yaml out=runs/short train.steps=500
  mot compare --report runs/compare-speech --json`,
    )
    .action((config: string | undefined, overrides: string[], flags: CompareFlags) =>
      compare(config, overrides, flags),
    );
}

async function compare(path: string | undefined, overrides: string[], flags: CompareFlags): Promise<void> {
  const { writeComparisonReport } = await import('../compare/report.js');
  if ((path === undefined) === (flags.report === undefined))
    throw new MotError('ERR_USAGE', 'mot compare takes a config, or --report and the folder of a comparison.');
  let out = flags.report;
  if (path !== undefined) {
    const { readComparison } = await import('../compare/config.js');
    const { runComparison } = await import('../compare/run.js');
    const { consolePreparation } = await import('../data/prepare_progress.js');
    const { consoleProgress } = await import('../train/progress.js');
    const comparison = readComparison(path, overrides);
    const stop = stopOnSignals();
    try {
      const { finished, runs } = await runComparison(comparison, {
        progress: consoleProgress(),
        preparation: consolePreparation(),
        stop: stop.signal,
        onModels: (models) => process.stderr.write(`${modelTable(models)}\n`),
      });
      if (finished < runs) {
        if (flags.json) printJson({ out: comparison.out, finished, runs });
        else
          process.stderr.write(
            `stopped with ${finished} of ${runs} runs finished; the same command goes on in ${comparison.out}.\n`,
          );
        return;
      }
    } finally {
      stop.release();
    }
    out = comparison.out;
  }
  const { page, results } = writeComparisonReport(out!);
  if (flags.json) printJson(results);
  else {
    const { resultText } = await import('../compare/text.js');
    process.stdout.write(`${resultText(results)}\n\n${page}\n`);
  }
}

function modelTable(models: readonly ModelSummary[]): string {
  return table([
    ['model', 'parameters', 'MFLOP a token', 'of the baseline', 'seeds'],
    ...models.map(({ name, parameters, flopsPerToken, flopsRatio, seeds }) => [
      name,
      parameters.toLocaleString('en').padStart(10),
      (flopsPerToken / 1e6).toFixed(2).padStart(13),
      flopsRatio.toFixed(3).padStart(15),
      seeds.join(', '),
    ]),
  ]);
}
