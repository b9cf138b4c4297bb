import type { Command } from 'commander';
import { MotError } from '../errors.js';
import { act, printJson, table, wholeNumber } from './common.js';

interface PrepareFlags {
  config?: string;
  threads?: number;
  json?: boolean;
}

/** Adds `mot prepare`. */
export function registerPrepare(program: Command): void {
  program
    .command('prepare')
    .description('Prepare a data set: a folder with token shards, tokenizers and a manifest.')
    .argument('<dataset>', 'emoji: scenes of emoji as pictures, captions and spoken captions')
    .argument('[key=value...]', 'options: out=DIR, concepts=500, spoken=400, documents=40000, seed=0, ...')
    .option('-c, --config <file>', 'take the options from the data.prepare part of a run config')
    .option('--threads <count>', 'worker threads; results do not depend on it', wholeNumber('--threads', 1))
    .option('--json', 'print folder, splits and lines to beat as JSON')
    .addHelpText(
      'after',
      `
The folder is data/emoji-HASH by default, after the options; a set that is there already is left as it is.

Examples:
  mot prepare emoji
  mot prepare emoji out=data/small concepts=100 spoken=50 documents=5000
  mot prepare emoji --config recipes/start.yaml`,
    )
    .action((dataset: string, overrides: string[], flags: PrepareFlags) =>
      act(() => prepareCommand(dataset, overrides, flags)),
    );
}

async function prepareCommand(dataset: string, overrides: string[], flags: PrepareFlags): Promise<void> {
  if (dataset !== 'emoji')
    throw new MotError('ERR_USAGE', `mot prepare knows one data set, emoji; got ${dataset}. See mot prepare --help.`);
  const { applyOverrides } = await import('../config/file.js');
  const { parseWith } = await import('../config/parse.js');
  const { readRunConfig } = await import('../config/run_config.js');
  const { emojiOptionsSchema } = await import('../data/emoji/options.js');
  const { prepareEmoji } = await import('../data/prepare_emoji.js');
  const { consolePreparation } = await import('../data/prepare_progress.js');

  const base = flags.config === undefined ? {} : readRunConfig(flags.config).data.prepare;
  const { value, where } = applyOverrides({ value: base, where: () => '' }, overrides);
  const { out, ...given } = value;
  if (out !== undefined && typeof out !== 'string')
    throw new MotError('ERR_USAGE', 'out must be the name of a folder, such as out=data/emoji.');
  const options = parseWith(emojiOptionsSchema, given, 'options of the emoji data set', { where });

  const progress = consolePreparation();
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    const { folder, manifest, cached } = await prepareEmoji(options, {
      progress,
      signal: controller.signal,
      ...(out === undefined ? {} : { out }),
      ...(flags.threads === undefined ? {} : { threads: flags.threads }),
    });
    progress.stop();
    const { splits, baselines, fingerprint } = manifest;
    if (flags.json) printJson({ folder, cached, fingerprint, splits, baselines });
    else {
      const rows = Object.entries(splits).map(([name, { documents, tokens }]) => [name, documents, tokens]);
      process.stderr.write(`${table([['split', 'documents', 'tokens'], ...rows])}\n`);
      if (cached) process.stderr.write('It was there already.\n');
      process.stdout.write(`${folder}\n`);
    }
  } finally {
    progress.stop();
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}
