import type { Command } from 'commander';
import type { OpSummary } from '../train/profile.js';
import type { LivePage } from '../watch/server.js';
import { printJson, table } from './common.js';
import { stopOnSignals } from './signals.js';
import { port } from './watch.js';

interface TrainFlags {
  resume?: boolean;
  json?: boolean;
  profile?: string;
  watch?: number;
}

/** Adds `mot train`. */
export function registerTrain(program: Command): void {
  program
    .command('train')
    .description('Train a model, and write a run folder: config.yaml, metrics.jsonl, TensorBoard events, checkpoints.')
    .argument('<config>', 'YAML or JSON file; see recipes/')
    .argument('[key=value...]', 'settings over those of the file: out=DIR, model.d_model=128, train.lr=0.001')
    .option('--resume', 'go on from the newest checkpoint of the run folder, or start where there is none')
    .option(
      '--profile <file>',
      'write a Chrome trace of three steps (ui.perfetto.dev opens it); list the ten dearest ops',
    )
    .option('--watch [port]', 'serve a live page on 127.0.0.1 while it trains; default port 8420', port)
    .option('--json', 'print the last metrics as JSON')
    .addHelpText(
      'after',
      `
Ctrl-C (or SIGTERM) finishes the step, saves a checkpoint and exits with 0; a second one exits at once.
SIGUSR2 saves a checkpoint and training goes on: kill -USR2 PID.

Examples:
  mot train recipes/smoke.yaml
  mot train recipes/start.yaml --watch
  mot train recipes/start.yaml out=runs/wide model.d_model=192 train.steps=2000
  mot train recipes/start.yaml out=runs/wide --resume
  mot train recipes/smoke.yaml out=runs/p train.steps=100 --profile trace.json`,
    )
    .action((config: string, overrides: string[], flags: TrainFlags) => trainCommand(config, overrides, flags));
}

async function trainCommand(path: string, overrides: string[], flags: TrainFlags): Promise<void> {
  const { readRunConfig } = await import('../config/run_config.js');
  const { runTraining } = await import('../train/run.js');
  const { consolePreparation } = await import('../data/prepare_progress.js');
  const { consoleProgress } = await import('../train/progress.js');
  const config = readRunConfig(path, overrides);
  const signals = stopOnSignals();
  const page = flags.watch === undefined ? undefined : await openPage(config.out, flags.watch);
  let finished = false;
  try {
    const result = await runTraining(config, {
      resume: flags.resume ?? false,
      progress: consoleProgress(),
      preparation: consolePreparation(),
      stop: signals.signal,
      saveNow: () => signals.saveNow(),
      ...(flags.profile === undefined ? {} : { profile: flags.profile }),
    });
    finished = result.finished;
    if (result.ops && !flags.json) process.stderr.write(`${opTable(result.ops)}\n`);
    if (flags.json) printJson(result);
    else if (result.finished) process.stdout.write(`${result.checkpoint}\n`);
    else
      process.stderr.write(
        `stopped after step ${result.step} of ${config.train.steps} and saved ${result.checkpoint}; go on with --resume.\n`,
      );
  } finally {
    await page?.close(finished ? 'finished' : 'stopped');
    signals.release();
  }
}

/** The live page; without a free port training goes on without it. */
async function openPage(run: string, first: number): Promise<LivePage | undefined> {
  const { LivePage } = await import('../watch/server.js');
  try {
    const page = await LivePage.open(run, { port: first });
    process.stderr.write(`watch: ${page.url}\n`);
    return page;
  } catch (error) {
    process.stderr.write(`no live page, training goes on without it: ${(error as Error).message}\n`);
    return undefined;
  }
}

/** The ten dearest ops of a step. */
function opTable(ops: readonly OpSummary[]): string {
  const rows = ops
    .slice(0, 10)
    .map(({ op, calls, ms, share, gflops, gbps, shareOfLimit }) => [
      op,
      Math.round(calls),
      ms.toFixed(2).padStart(9),
      `${(100 * share).toFixed(1)} %`.padStart(7),
      gflops.toFixed(0).padStart(8),
      gbps.toFixed(1).padStart(6),
      `${(100 * shareOfLimit).toFixed(0)} %`.padStart(8),
    ]);
  return table([['op', 'calls', 'ms a step', '  share', ' GFLOP/s', '  GB/s', 'of limit'], ...rows]);
}
