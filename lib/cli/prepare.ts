import type { Command } from 'commander';
import type { PreparedDataset, PrepareRun } from '../data/prepare_emoji.js';
import { MotError } from '../errors.js';
import { act, printJson, table, wholeNumber } from './common.js';
import { sourceReport } from './data_report.js';

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
    .argument('<what>', 'a config of sources of your own, or emoji: scenes of emoji, captions and spoken captions')
    .argument('[key=value...]', 'override keys of the config; of emoji: concepts=500, documents=40000, seed=0, ...')
    .option('-c, --config <file>', 'emoji: take the options from the data.prepare part of a run config')
    .option('--threads <count>', 'worker threads; results do not depend on it', wholeNumber('--threads', 1))
    .option('--json', 'print folder, splits and lines to beat as JSON')
    .addHelpText(
      'after',
      `
A config names sources (JSONL, text files, WebDataset tars, Parquet), tokenizers and the folder: recipes/own-data.yaml
shows all keys. Stopped or killed, the same command goes on where it was. What cannot be used is left out and named,
with its reason, in skipped.jsonl. Train with data.dataset=FOLDER; look into it with mot data inspect FOLDER.

The folder of emoji is data/emoji-HASH by default, after the options; a set that is there already is left as it is.

Examples:
  mot prepare recipes/own-data.yaml
  mot prepare recipes/own-data.yaml out=data/mine max_tokens=1024
  mot prepare emoji
  mot prepare emoji out=data/small concepts=100 spoken=50 documents=5000
  mot prepare emoji --config recipes/start.yaml`,
    )
    .action((what: string, overrides: string[], flags: PrepareFlags) =>
      act(() => prepareCommand(what, overrides, flags)),
    );
}

async function prepareCommand(what: string, overrides: string[], flags: PrepareFlags): Promise<void> {
  const { consolePreparation } = await import('../data/prepare_progress.js');
  const prepare = what === 'emoji' ? await emojiPreparation(overrides, flags) : await ownPreparation(what, overrides);
  const progress = consolePreparation();
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    const threads = flags.threads === undefined ? {} : { threads: flags.threads };
    const { folder, manifest, cached } = await prepare({ progress, signal: controller.signal, ...threads });
    progress.stop();
    const { splits, baselines, fingerprint, sources } = manifest;
    if (flags.json) {
      printJson({ folder, cached, fingerprint, splits, baselines, ...(sources ? { sources } : {}) });
      return;
    }
    const rows = Object.entries(splits).map(([name, { documents, tokens }]) => [name, documents, tokens]);
    process.stderr.write(`${table([['split', 'documents', 'tokens'], ...rows])}\n`);
    if (sources) process.stderr.write(await sourceReport(folder, manifest));
    if (cached) process.stderr.write('It was there already.\n');
    process.stdout.write(`${folder}\n`);
  } finally {
    progress.stop();
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

/** How a data set is prepared once progress and threads are known; its options are checked before. */
type Preparation = (run: PrepareRun) => Promise<PreparedDataset>;

async function emojiPreparation(overrides: string[], flags: PrepareFlags): Promise<Preparation> {
  const { applyOverrides } = await import('../config/file.js');
  const { parseWith } = await import('../config/parse.js');
  const { readRunConfig } = await import('../config/run_config.js');
  const { emojiOptionsSchema } = await import('../data/emoji/options.js');
  const { prepareEmoji } = await import('../data/prepare_emoji.js');
  const base = flags.config === undefined ? {} : readRunConfig(flags.config).data.prepare;
  const { value, where } = applyOverrides({ value: base, where: () => '' }, overrides);
  const { out, ...given } = value;
  if (out !== undefined && typeof out !== 'string')
    throw new MotError('ERR_USAGE', 'out must be the name of a folder, such as out=data/emoji.');
  const options = parseWith(emojiOptionsSchema, given, 'options of the emoji data set', { where });
  return (run) => prepareEmoji(options, { ...run, ...(out === undefined ? {} : { out }) });
}

async function ownPreparation(config: string, overrides: string[]): Promise<Preparation> {
  if (!/[./]/.test(config))
    throw new MotError(
      'ERR_USAGE',
      `mot prepare takes emoji or the file of a config, such as my-data.yaml; got ${config}. See mot prepare --help.`,
    );
  const { readOwnOptions } = await import('../data/own/options.js');
  const { prepareOwn } = await import('../data/own/prepare.js');
  const options = readOwnOptions(config, overrides);
  return (run) => prepareOwn(options, run);
}
