import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MotError } from '../../errors.js';
import { writeFileAtomic } from '../../io/files.js';
import type { Vocabulary } from '../../modalities/vocabulary.js';
import type { DatasetManifest, DatasetSplit, SourceSummary, SplitName } from '../dataset.js';

const STATE_FILE = 'unfinished.json';

/** Where preparing a data set stands: kept in its folder until the manifest takes its place. */
export interface PrepareState {
  format: 'mot-unfinished';
  version: 1;
  /** Hash of the config and of names, sizes and times of the source files. */
  inputs: string;
  vocabulary: Vocabulary;
  tokenizers: DatasetManifest['tokenizers'];
  /** Tasks that are done: their documents are in the shards below. */
  tasks: number;
  /** File of the last of them, and its lines so far. */
  file: string;
  lines: number;
  splits: Record<SplitName, DatasetSplit>;
  longest: number;
  /** Bytes of skipped.jsonl that belong to these tasks. */
  skippedBytes: number;
  sources: SourceSummary[];
}

/**
 * The state of an unfinished data set of the same inputs; undefined where there is none.
 *
 * @throws MotError ERR_FILE_WRITE when the folder holds an unfinished one of other inputs.
 */
export function readState(folder: string, inputs: string): PrepareState | undefined {
  const path = join(folder, STATE_FILE);
  if (!existsSync(path)) return undefined;
  let state: PrepareState | undefined;
  try {
    state = JSON.parse(readFileSync(path, 'utf8')) as PrepareState;
  } catch {
    // Not ours.
  }
  if (state?.format === 'mot-unfinished' && state.version === 1 && state.inputs === inputs) return state;
  throw new MotError(
    'ERR_FILE_WRITE',
    `${folder} holds an unfinished data set of another config or of sources that have changed since; remove it, or choose another out.`,
  );
}

export function writeState(folder: string, state: PrepareState): void {
  writeFileAtomic(join(folder, STATE_FILE), JSON.stringify(state));
}

export function removeState(folder: string): void {
  rmSync(join(folder, STATE_FILE), { force: true });
}
