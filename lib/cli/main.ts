#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { packageVersion } from '../package.js';
import { registerBench } from './bench.js';
import { act } from './common.js';
import { registerCompare } from './compare.js';
import { registerData } from './data.js';
import { registerDescribe } from './describe.js';
import { registerDoctor } from './doctor.js';
import { registerEval } from './eval.js';
import { registerGenerate } from './generate.js';
import { registerInit } from './init.js';
import { registerPrepare } from './prepare.js';
import { registerReport } from './report.js';
import { registerStart } from './start.js';
import { registerTrain } from './train.js';
import { registerVerify } from './verify.js';
import { registerWatch, separateWatch } from './watch.js';

/** The command line. Commands load what they need when they run, so that help needs no addon. */
export function makeProgram(): Command {
  const program = new Command('mot')
    .description('Train and run Mixture-of-Transformers models: text, images and speech in one sequence.')
    .version(packageVersion(), '-V, --version')
    .showHelpAfterError('(--help shows the options)')
    .showSuggestionAfterError()
    .exitOverride();
  registerStart(program);
  registerInit(program);
  registerPrepare(program);
  registerData(program);
  registerTrain(program);
  registerCompare(program);
  registerWatch(program);
  registerVerify(program);
  registerGenerate(program);
  registerEval(program);
  registerReport(program);
  registerBench(program);
  registerDescribe(program);
  registerDoctor(program);
  program.addHelpText(
    'after',
    `
Examples:
  mot start                                 data, training, samples and a report, about ten minutes
  mot train recipes/smoke.yaml out=runs/a   a short run of your own
  mot train recipes/start.yaml --resume     go on where it stopped
  mot verify                                check the kernels against the golden files

Exit codes: 0 done, 1 failed, 2 wrong usage. MOT_DEBUG=1 shows stacks of errors.`,
  );
  return program;
}

/** Runs the command line; sets process.exitCode. */
export async function main(argv: readonly string[]): Promise<void> {
  // A reader that went away (`mot describe | head`) is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
    throw error;
  });
  await act(async () => {
    try {
      await makeProgram().parseAsync(separateWatch(argv));
    } catch (error) {
      // Commander has told what is wrong.
      if (!(error instanceof CommanderError)) throw error;
      process.exitCode = error.exitCode === 0 ? 0 : 2;
    }
  });
}

await main(process.argv);
