import type { Command } from 'commander';
import { existsSync } from 'node:fs';
import { MotError } from '../errors.js';
import { wholeNumber } from './common.js';

/** `mot watch RUN`. */
export function registerWatch(program: Command): void {
  program
    .command('watch')
    .description('serve a live page of a run that another process trains: curves, throughput, memory')
    .argument('<run>', 'folder of a run')
    .option('--port <n>', 'first port to try, then the nine after it; 0: any free one; default 8420', port)
    .addHelpText(
      'after',
      `
The page is on 127.0.0.1 only; from another machine: ssh -L 8420:localhost:8420 HOST. Ctrl-C ends it.

Example:
  mot watch runs/start`,
    )
    .action(async (run: string, options: { port?: number }) => {
      if (!existsSync(run))
        throw new MotError('ERR_FILE_OPEN', `there is no folder ${run}; name the out=DIR of a run.`);
      const page = await openPage(run, options.port);
      process.stdout.write(`${page.url}\n`);
      await new Promise<void>((stop) => {
        // Holds the process until a signal comes.
        const held = setInterval(() => undefined, 1 << 30);
        const onSignal = (): void => {
          clearInterval(held);
          stop();
        };
        process.once('SIGINT', onSignal);
        process.once('SIGTERM', onSignal);
      });
      await page.close();
    });
}

/** A port as an option's value. */
export function port(text: string): number {
  const number = wholeNumber('the port', 0)(text);
  if (number > 65535) throw new MotError('ERR_USAGE', `a port is at most 65535, got ${text}.`);
  return number;
}

async function openPage(run: string, first: number | undefined): Promise<import('../watch/server.js').LivePage> {
  const { LivePage } = await import('../watch/server.js');
  try {
    return await LivePage.open(run, first === undefined ? {} : { port: first });
  } catch (cause) {
    throw new MotError('ERR_USAGE', `no port for the page: ${(cause as Error).message}; choose another --port.`, {
      cause,
    });
  }
}

/**
 * `--watch` takes a port or nothing: a word after it that is no number is an argument of its own, as in
 * `mot train --watch config.yaml`.
 */
export function separateWatch(argv: readonly string[]): string[] {
  return argv.map((word, i) => (word === '--watch' && !/^\d+$/.test(argv[i + 1] ?? '') ? '--watch=8420' : word));
}
