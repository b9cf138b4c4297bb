import type { Command } from 'commander';
import type { SplitName } from '../data/dataset.js';
import type { DocumentSample, SplitInspection } from '../data/inspect.js';
import { MotError } from '../errors.js';
import { act, oneOf, printJson, table, wholeNumber } from './common.js';
import { sourceReport } from './data_report.js';

interface InspectFlags {
  html?: string;
  samples: number;
  documents?: number[];
  split?: SplitName;
  json?: boolean;
}

const SPLITS = ['train', 'validation', 'heldout'] as const satisfies SplitName[];

function indexList(text: string): number[] {
  if (!/^\d+(,\d+)*$/.test(text))
    throw new MotError('ERR_USAGE', `--documents must be indices from 0 with commas between them, got ${text}.`);
  return text.split(',').map(Number);
}

/** Adds `mot data`. */
export function registerData(program: Command): void {
  const data = program.command('data').description('Look into prepared data sets.');
  data.addHelpText('after', '\nExample:\n  mot data inspect data/mine --html data.html');
  data
    .command('inspect')
    .description('Counts, lengths, shares of modalities and decoded documents of a data set or one of its shards.')
    .argument('<where>', 'folder of a data set, or a shard in it')
    .option('--html <file>', 'also write a page with pictures and sounds')
    .option('--samples <count>', 'documents of each split that are decoded', wholeNumber('--samples', 0), 4)
    .option('--documents <indices>', 'decode these documents instead, such as those of a loss spike: 5,17', indexList)
    .option(
      '--split <name>',
      'look into this split only; default all, and train with --documents',
      oneOf('--split', SPLITS),
    )
    .option('--json', 'print the figures as JSON, without documents')
    .addHelpText(
      'after',
      `
Examples:
  mot data inspect data/mine
  mot data inspect data/mine/train-00000.safetensors --samples 20
  mot data inspect data/mine --documents 5,17
  mot data inspect data/mine --html data.html`,
    )
    .action((where: string, flags: InspectFlags) => act(() => inspect(where, flags)));
}

async function inspect(where: string, flags: InspectFlags): Promise<void> {
  const { inspectDataset } = await import('../data/inspect.js');
  const { folder, manifest, splits } = await inspectDataset(where, {
    samples: flags.samples,
    ...(flags.documents ? { documents: flags.documents } : {}),
    ...(flags.split ? { split: flags.split } : {}),
  });
  if (flags.html !== undefined) {
    const { renderDatasetPage } = await import('../report/dataset_page.js');
    const { writeFileAtomic } = await import('../io/files.js');
    writeFileAtomic(flags.html, renderDatasetPage(folder, manifest, splits));
  }
  if (flags.json) {
    printJson(splits.map(({ samples: _, ...figures }) => figures));
    return;
  }
  const { modalities } = manifest.vocabulary;
  const head = ['split', 'documents', 'tokens', 'shortest', 'median', 'mean', '95 %', 'longest'];
  const rows = splits.map(({ split, documents, tokens, lengths }) => [
    split,
    documents,
    tokens,
    lengths.shortest,
    lengths.median,
    Math.round(lengths.mean),
    lengths.p95,
    lengths.longest,
  ]);
  process.stdout.write(`${table([head, ...rows])}\n\n`);
  const shares = splits.map(({ split, modalities: figures }) => [
    split,
    ...modalities.map((name) => `${(100 * figures[name]!.share).toFixed(1)} %`),
  ]);
  process.stdout.write(`${table([['share of tokens', ...modalities], ...shares])}\n`);
  if (manifest.sources) process.stdout.write(`\n${await sourceReport(folder, manifest)}`);
  for (const split of splits)
    for (const sample of split.samples) process.stdout.write(`\n${sampleText(split, sample)}\n`);
}

function sampleText({ split }: SplitInspection, { index, tokens, segments }: DocumentSample): string {
  const parts = segments.map((segment) => {
    if ('image' in segment) return `[picture of ${segment.image.width}x${segment.image.height} pixels]`;
    if ('speech' in segment)
      return `[sound of ${(segment.speech.samples.length / segment.speech.sampleRate).toFixed(1)} s]`;
    const value: unknown = Object.values(segment)[0];
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return text.length > 300 ? `${text.slice(0, 300)} ...` : text;
  });
  return `${split} ${index}, ${tokens} tokens: ${parts.join(' ')}`;
}
