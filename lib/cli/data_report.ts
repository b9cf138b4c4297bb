import { createReadStream, existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { DatasetManifest } from '../data/dataset.js';
import { table } from './common.js';

/** Reasons of skipped items that are told one by one. */
const REASONS = 8;

/** What came of the sources of a data set, and the most frequent reasons for which items were skipped. */
export async function sourceReport(folder: string, { sources = [], vocabulary }: DatasetManifest): Promise<string> {
  const rows = sources.map(({ kind, patterns, items, skipped, documents, tokens }) => [
    `${kind} ${patterns.join(', ')}`,
    items,
    skipped,
    documents,
    ...vocabulary.modalities.map((name) => tokens[name] ?? 0),
  ]);
  const head = ['source', 'items', 'skipped', 'documents', ...vocabulary.modalities.map((name) => `${name} tokens`)];
  const skipped = sources.reduce((sum, source) => sum + source.skipped, 0);
  let text = `${table([head, ...rows])}\n`;
  if (skipped === 0) return text;
  const path = join(folder, 'skipped.jsonl');
  text += `Skipped: ${skipped}, each named in ${path}`;
  const reasons = existsSync(path) ? await firstOfEachReason(path) : [];
  for (const { reason, where, count } of reasons.slice(0, REASONS))
    text += `\n  ${count === 1 ? '' : `${count} times, first: `}${where}: ${reason}`;
  if (reasons.length > REASONS) text += `\n  and ${reasons.length - REASONS} other reasons`;
  return `${text}\n`;
}

interface Reason {
  reason: string;
  where: string;
  count: number;
}

/** Reasons that differ in more than numbers and names, the most frequent first. */
async function firstOfEachReason(path: string): Promise<Reason[]> {
  const found = new Map<string, Reason>();
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const skipped = JSON.parse(line) as { file: string; line?: number; member?: string; row?: number; reason: string };
    const { file, line: number, member, row, reason } = skipped;
    const where = `${file}${number === undefined ? '' : `:${number}`}${member === undefined ? '' : ` ${member}`}${row === undefined ? '' : ` row ${row}`}`;
    const kind = reason.replace(/^\S*: /, '').replace(/\S*[\d./]\S*/g, '*');
    const known = found.get(kind);
    if (known) known.count++;
    else if (found.size < 1000) found.set(kind, { reason, where, count: 1 });
  }
  return [...found.values()].sort((a, b) => b.count - a.count);
}
