import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { parseWith } from '../config/parse.js';
import { MotError } from '../errors.js';
import * as asyncFiles from '../io/async_files.js';
import { fileError, hashFile, removeQuietly } from '../io/files.js';

/** Weights by name; their safetensors metadata `config` is the model's config as JSON. */
export const MODEL_FILE = 'model.safetensors';
/** AdamW's moments: `m.NAME`, `v.NAME`. */
export const OPTIMIZER_FILE = 'optimizer.safetensors';
/** Averaged weights, of runs that have them: as MODEL_FILE, so that it loads as weights. */
export const EMA_FILE = 'ema.safetensors';
const TRAINER_FILE = 'trainer.json';
const MANIFEST_FILE = 'manifest.json';
const FOLDER = /^step-(\d{6,})$/;
const BEST = 'best';
const TEMPORARY = /^\.(step-\d+|best)\.tmp-\d+$/;

const trainerState = z.strictObject({
  /** Training steps done. */
  step: z.int().min(0),
  /** How many of them changed nothing, because they were not finite or a spike. */
  skipped: z.int().min(0),
  /** Documents that the loader has consumed: where the next batch begins. */
  cursor: z.int().min(0),
  /** Seed of initial weights and of the order of documents. */
  seed: z.int().min(0),
  /** The run's resolved config. */
  config: z.record(z.string(), z.unknown()),
  /** What later steps are judged by, oldest first; checkpoints of earlier versions have none. */
  recent: z
    .strictObject({
      loss: z.array(z.number()),
      grad_norm: z.array(z.number()),
      /** Steps in a row that changed nothing, up to now. */
      skipped: z.int().min(0),
    })
    .default(() => ({ loss: [], grad_norm: [], skipped: 0 })),
  /** Training time so far, seconds. */
  elapsed: z.number().min(0),
  /** The prepared data set: folder as the config names it, and its fingerprint. */
  dataset: z.strictObject({ folder: z.string(), fingerprint: z.string() }),
});

/** All that a run goes on from, besides weights and moments. */
export type TrainerState = z.output<typeof trainerState>;

const manifestSchema = z.strictObject({
  format: z.literal('mot-checkpoint'),
  version: z.literal(1),
  step: z.int().min(0),
  files: z.record(z.string(), z.strictObject({ bytes: z.int().min(0), sha256: z.string().regex(/^[0-9a-f]{64}$/) })),
});

type Manifest = z.output<typeof manifestSchema>;

/** Which checkpoints of a run stay; the others are removed when a new one has been written. */
export interface Keep {
  /** How many of the newest. */
  newest: number;
  /** Also all whose step is a multiple of this; 0 (the default): none. */
  every?: number;
  /** Chooses the best of these steps; RUN/checkpoints/best then points to it. */
  best?: (steps: readonly number[]) => number | undefined;
}

/** A checkpoint that has been found whole. */
export interface Checkpoint {
  path: string;
  state: TrainerState;
  /** Whether it has averaged weights. */
  ema: boolean;
}

/**
 * Writes RUN/checkpoints/step-NNNNNN: everything into a folder of a temporary name, the manifest with sizes and
 * checksums last, then one rename. So a checkpoint is whole or not there, whatever stops the process. Afterwards those
 * that `keep` does not name are removed. Nothing of it holds the event loop for long: training goes on meanwhile where
 * `save` writes a copy.
 *
 * @param save Writes MODEL_FILE and OPTIMIZER_FILE, and EMA_FILE if there is one, into the folder given to it. The checksum
 *   of a file that it names to `written` is made while it writes the next one.
 * @returns The checkpoint's path.
 * @throws MotError ERR_FILE_WRITE; the temporary folder is removed, older checkpoints stay.
 */
export async function writeCheckpoint(
  run: string,
  state: TrainerState,
  keep: Keep,
  save: (folder: string, written: (file: string) => void) => Promise<void>,
): Promise<string> {
  const parent = join(run, 'checkpoints');
  const path = checkpointFolder(run, state.step);
  const name = basename(path);
  const temporary = join(parent, `.${name}.tmp-${process.pid}`);
  try {
    await rm(temporary, { recursive: true, force: true });
    // Not the run's folder: where that has vanished, a new one would hold a checkpoint without config and metrics.
    if (!existsSync(parent)) await mkdir(parent);
    await mkdir(temporary);
    const hashes = new Map<string, ReturnType<typeof asyncFiles.hashFile>>();
    await save(temporary, (file) => {
      const hash = asyncFiles.hashFile(join(temporary, file));
      hash.catch(() => undefined); // awaited below, unless saving fails first
      hashes.set(file, hash);
    });
    await writeJson(join(temporary, TRAINER_FILE), state);
    const manifest: Manifest = { format: 'mot-checkpoint', version: 1, step: state.step, files: {} };
    for (const file of (await readdir(temporary)).sort())
      manifest.files[file] = await (hashes.get(file) ?? asyncFiles.hashFile(join(temporary, file)));
    await writeJson(join(temporary, MANIFEST_FILE), manifest);
    await asyncFiles.syncFolder(temporary);
    // One of the same step is either damaged (it was passed over) or was written by this very state.
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
    await asyncFiles.syncFolder(parent);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw fileError('ERR_FILE_WRITE', `cannot write the checkpoint ${path}`, cause);
  }
  await prune(run, state.step, keep);
  return path;
}

/** Into a folder that nobody reads yet. */
async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, null, 2)}\n`, { flush: true });
}

/** Folder of a run's checkpoint of a step, there or not. */
export function checkpointFolder(run: string, step: number): string {
  return join(run, 'checkpoints', `step-${String(step).padStart(6, '0')}`);
}

/** Points `best` to the best checkpoint and removes those that are not to be kept. */
async function prune(run: string, step: number, keep: Keep): Promise<void> {
  const parent = join(run, 'checkpoints');
  // Later steps are damaged leftovers; they are overwritten when the run gets there, and must not count here.
  const folders = checkpointFolders(run).filter((folder) => stepOf(folder) <= step);
  const best = keep.best?.(folders.map(stepOf));
  const bestFolder = folders.find((folder) => stepOf(folder) === best);
  // The link first: it must never point to what has been removed.
  pointBestTo(parent, bestFolder && basename(bestFolder));
  for (const folder of folders.slice(keep.newest)) {
    if (folder === bestFolder || (keep.every && stepOf(folder) % keep.every === 0)) continue;
    // Under its name a checkpoint is whole: killed meanwhile, this leaves a temporary folder.
    const leaving = join(parent, `.${basename(folder)}.tmp-${process.pid}`);
    try {
      await rename(folder, leaving);
      await rm(leaving, { recursive: true, force: true });
    } catch {
      // It stays: one too many is no reason to end a run.
    }
  }
}

/** Makes RUN/checkpoints/best a link to a checkpoint beside it, in one rename; removes it where there is none. */
function pointBestTo(parent: string, name: string | undefined): void {
  const link = join(parent, BEST);
  if (name === undefined) {
    removeQuietly(link);
    return;
  }
  const temporary = join(parent, `.${BEST}.tmp-${process.pid}`);
  try {
    rmSync(temporary, { force: true });
    symlinkSync(name, temporary);
    renameSync(temporary, link);
  } catch (cause) {
    throw fileError('ERR_FILE_WRITE', `cannot write ${link}`, cause);
  }
}

/** Checkpoint folders of a run, newest first, whole or not. */
function checkpointFolders(run: string): string[] {
  const parent = join(run, 'checkpoints');
  if (!existsSync(parent)) return [];
  return readdirSync(parent)
    .filter((name) => FOLDER.test(name))
    .map((name) => join(parent, name))
    .sort((a, b) => stepOf(b) - stepOf(a));
}

/** How many checkpoints a run has on the disk, whole or not. */
export function checkpointCount(run: string): number {
  return checkpointFolders(run).length;
}

function stepOf(folder: string): number {
  return Number(FOLDER.exec(basename(folder))![1]);
}

/** Removes folders that a killed process left half written. Call it only where no other process trains into the run. */
export function removeUnfinished(run: string): void {
  const parent = join(run, 'checkpoints');
  if (!existsSync(parent)) return;
  for (const name of readdirSync(parent))
    if (TEMPORARY.test(name)) rmSync(join(parent, name), { recursive: true, force: true });
}

/**
 * Checks every file of a checkpoint against the manifest, by size and checksum.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT saying what is damaged.
 */
export function readCheckpoint(path: string): Checkpoint {
  const manifest = parseWith(manifestSchema, readJson(join(path, MANIFEST_FILE)), join(path, MANIFEST_FILE), {
    code: 'ERR_FILE_FORMAT',
  });
  const ema = manifest.files[EMA_FILE] !== undefined;
  for (const file of [MODEL_FILE, OPTIMIZER_FILE, TRAINER_FILE, ...(ema ? [EMA_FILE] : [])]) {
    const expected = manifest.files[file];
    if (!expected) throw new MotError('ERR_FILE_FORMAT', `the checkpoint ${path} has no ${file} in its manifest.`);
    let found;
    try {
      // The cheap test first: a truncated file needs no hashing.
      found = { bytes: statSync(join(path, file)).size, sha256: '' };
      if (found.bytes === expected.bytes) found = hashFile(join(path, file));
    } catch (cause) {
      throw fileError('ERR_FILE_OPEN', `cannot read ${join(path, file)}`, cause);
    }
    if (found.bytes !== expected.bytes)
      throw new MotError(
        'ERR_FILE_FORMAT',
        `${join(path, file)} is damaged: ${found.bytes} bytes instead of ${expected.bytes}; use another checkpoint.`,
      );
    if (found.sha256 !== expected.sha256)
      throw new MotError(
        'ERR_FILE_FORMAT',
        `${join(path, file)} is damaged: its checksum differs; use another checkpoint.`,
      );
  }
  const state = parseWith(trainerState, readJson(join(path, TRAINER_FILE)), join(path, TRAINER_FILE), {
    code: 'ERR_FILE_FORMAT',
  });
  return { path, state, ema };
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw fileError('ERR_FILE_OPEN', `cannot read ${path}`, cause);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MotError('ERR_FILE_FORMAT', `${path} is not valid JSON.`, { cause });
  }
}

/** The newest whole checkpoint of a run, if there is one. Damaged ones are passed over, each with a warning. */
export function latestCheckpoint(run: string, warn: (sentence: string) => void): Checkpoint | undefined {
  for (const path of checkpointFolders(run)) {
    try {
      return readCheckpoint(path);
    } catch (error) {
      warn(`passing over a checkpoint: ${(error as Error).message}`);
    }
  }
  return undefined;
}

/**
 * A checkpoint as people name it: its own folder, the folder of a run (its newest checkpoint), or a file in either.
 *
 * @throws MotError ERR_FILE_OPEN when there is none, ERR_FILE_FORMAT when the one named is damaged.
 */
export function openCheckpoint(path: string, warn: (sentence: string) => void = () => {}): Checkpoint {
  if (existsSync(join(path, 'checkpoints'))) {
    const latest = latestCheckpoint(path, warn);
    if (latest) return latest;
  } else if (existsSync(join(path, MANIFEST_FILE))) {
    return readCheckpoint(path);
  } else if (existsSync(path) && existsSync(join(dirname(path), MANIFEST_FILE))) {
    return readCheckpoint(dirname(path));
  }
  throw new MotError(
    'ERR_FILE_OPEN',
    `there is no checkpoint at ${path}; name a run folder or a checkpoint folder such as ${join(basename(path), 'checkpoints', 'step-000100')}.`,
  );
}
