import { join } from 'node:path';
import type { Command } from 'commander';
import { packageRoot } from '../package.js';
import { stopOnSignals } from './signals.js';

/** Adds `mot start`, which `npm start` runs. */
export function registerStart(program: Command): void {
  program
    .command('start')
    .description('Prepare the embedded data, train recipes/start.yaml on it, generate, and write report.html.')
    .argument('[key=value...]', 'settings over those of recipes/start.yaml')
    .addHelpText(
      'after',
      `
A run that was interrupted goes on; one that is finished gets its report anew.

Examples:
  mot start
  mot start out=runs/longer train.steps=4000`,
    )
    .action((overrides: string[]) => start(overrides));
}

async function start(overrides: string[]): Promise<void> {
  const { readRunConfig } = await import('../config/run_config.js');
  const { runTraining } = await import('../train/run.js');
  const { consolePreparation } = await import('../data/prepare_progress.js');
  const { consoleProgress } = await import('../train/progress.js');
  const { writeReport } = await import('../report/report.js');
  const config = readRunConfig(join(packageRoot(), 'recipes', 'start.yaml'), overrides);
  const stop = stopOnSignals();
  try {
    const result = await runTraining(config, {
      resume: true,
      progress: consoleProgress(),
      preparation: consolePreparation(),
      stop: stop.signal,
      saveNow: () => stop.saveNow(),
    });
    if (!result.finished) {
      process.stderr.write(`stopped after step ${result.step}; run the same command again to go on.\n`);
      return;
    }
    process.stderr.write('generating samples for the report\n');
    const report = await writeReport(config.out, { threads: config.train.threads, signal: stop.signal });
    process.stdout.write(`${report}\n`);
  } finally {
    stop.release();
  }
}
