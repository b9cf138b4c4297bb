import type { Command } from 'commander';

/** `mot report RUN`. */
export function registerReport(program: Command): void {
  program
    .command('report')
    .description('write report.html of a run: loss curves, throughput, and what the model draws, names and says')
    .argument('<run>', 'folder of a run')
    .option('--heldout <n>', 'concepts shown that training never saw', Number, 12)
    .option('--known <n>', 'concepts shown that training saw', Number, 6)
    .option('--seed <n>', 'seed of what is generated', Number, 0)
    .option('--threads <n>', 'threads; 0: all', Number, 0)
    .addHelpText('after', '\nExample:\n  mot report runs/start\n')
    .action(async (run: string, options: { heldout: number; known: number; seed: number; threads: number }) => {
      const { writeReport } = await import('../report/report.js');
      console.log(await writeReport(run, options));
    });
}
