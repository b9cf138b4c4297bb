import type { Command } from 'commander';
import { seedOption, threadsOption, wholeNumber } from './common.js';

/** `mot report RUN`. */
export function registerReport(program: Command): void {
  program
    .command('report')
    .description('write report.html of a run: loss curves, throughput, and what the model draws, names and says')
    .argument('<run>', 'folder of a run')
    .option('--heldout <n>', 'concepts shown that training never saw', wholeNumber('--heldout', 0), 12)
    .option('--known <n>', 'concepts shown that training saw', wholeNumber('--known', 0), 6)
    .addOption(seedOption())
    .addOption(threadsOption())
    .addHelpText('after', '\nExample:\n  mot report runs/start\n')
    .action(async (run: string, options: { heldout: number; known: number; seed: number; threads: number }) => {
      const { writeReport } = await import('../report/report.js');
      console.log(await writeReport(run, options));
    });
}
