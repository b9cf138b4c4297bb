import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { parseWith } from '../config/parse.js';
import { MotError } from '../errors.js';
import { fileError, makeFolder, writeFileAtomic } from '../io/files.js';
import type { Machine } from '../machine.js';

/** What a comparison began with, in its folder: the report follows from this and the runs' folders. */
const COMPARISON_FILE = 'comparison.json';
export const RESULTS_FILE = 'results.json';
export const PAGE_FILE = 'compare.html';

const stateSchema = z.strictObject({
  format: z.literal('mot-comparison'),
  version: z.literal(1),
  /** The config as given, with overrides. */
  config: z.record(z.string(), z.unknown()),
  data: z.strictObject({
    name: z.string(),
    fingerprint: z.string(),
    documents: z.int().min(1),
    tokens: z.int().min(1),
  }),
  /** Where it was trained; several where it went on on another machine. */
  machines: z.array(z.custom<Machine>((value) => typeof value === 'object' && value !== null)),
});

/** What a comparison began with. */
export type ComparisonState = z.output<typeof stateSchema>;

/** Reads OUT/comparison.json; undefined where there is none. MotError ERR_FILE_FORMAT. */
export function readState(out: string): ComparisonState | undefined {
  const path = join(out, COMPARISON_FILE);
  if (!existsSync(path)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw fileError('ERR_FILE_FORMAT', `cannot read ${path}`, cause);
  }
  return parseWith(stateSchema, value, path, { code: 'ERR_FILE_FORMAT' });
}

/**
 * Writes OUT/comparison.json, the machine added where it is another than before.
 *
 * @throws MotError ERR_USAGE when OUT holds a single run; ERR_FILE_WRITE.
 */
export function writeState(
  out: string,
  state: Omit<ComparisonState, 'format' | 'version' | 'machines'>,
  machine: Machine,
): void {
  if (existsSync(join(out, 'metrics.jsonl')))
    throw new MotError('ERR_USAGE', `${out} holds a single run; choose another out=DIR for the comparison.`);
  const before = readState(out)?.machines ?? [];
  const same = ({ cpu, instructions, threads, package: version }: Machine): string =>
    JSON.stringify([cpu, instructions, threads, version]);
  const machines = before.some((one) => same(one) === same(machine)) ? before : [...before, machine];
  makeFolder(out);
  const whole: ComparisonState = { format: 'mot-comparison', version: 1, ...state, machines };
  writeFileAtomic(join(out, COMPARISON_FILE), `${JSON.stringify(whole, null, 2)}\n`);
}
