import { createHash } from 'node:crypto';
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import sharp from 'sharp';
import { parseWith } from '../config/parse.js';
import { MotError } from '../errors.js';
import { makeFolder } from '../io/files.js';
import type { DatasetManifest } from './dataset.js';
import { buildEmoji } from './emoji/build.js';
import { emojiOptionsSchema, type EmojiOptions, type EmojiOptionsInput } from './emoji/options.js';
import { findDataPackages, packageVersion, type DataPackage } from './emoji/packages.js';
import { readManifest } from './manifest.js';
import type { PrepareProgress } from './prepare_progress.js';

/** Raised whenever the same options give other data, so that cached sets are made again. */
const REVISION = 1;

/** How to prepare; nothing in the result depends on it. */
export interface PrepareRun {
  /** Folder of the data set. Default: `data/emoji-` and the beginning of the fingerprint. */
  out?: string;
  /** Worker threads. Default: as many as this process may use. */
  threads?: number;
  progress?: PrepareProgress;
  /** Raised to give up: nothing is left behind. */
  signal?: AbortSignal;
}

/** Where a data set is. */
export interface PreparedDataset {
  folder: string;
  manifest: DatasetManifest;
  /** Whether it was there already. */
  cached: boolean;
}

/**
 * Prepares the embedded data set: emoji scenes as pictures, captions and spoken captions. The folder is made under
 * another name and renamed when it is whole; one that has the same fingerprint is left as it is.
 *
 * @throws MotError ERR_CONFIG for options that are unknown or out of range, ERR_DATA when the data packages are not
 *   installed, ERR_FILE_WRITE when the folder cannot be written or holds something else, ERR_ABORTED.
 */
export async function prepareEmoji(options: EmojiOptionsInput = {}, run: PrepareRun = {}): Promise<PreparedDataset> {
  const parsed = parseWith(emojiOptionsSchema, options, 'options of the emoji data set');
  const folders = findDataPackages();
  const fingerprint = fingerprintOf(parsed, folders);
  const folder = run.out ?? join('data', `emoji-${fingerprint.slice(0, 8)}`);
  const cached = cachedManifest(folder, fingerprint);
  if (cached) return { folder, manifest: cached, cached: true };

  const partial = join(dirname(resolve(folder)), `.${basename(resolve(folder))}.partial-${process.pid}`);
  try {
    makeFolder(partial);
    await buildEmoji(partial, parsed, folders, fingerprint, run);
    run.signal?.throwIfAborted();
    moveIntoPlace(partial, folder, fingerprint);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (run.signal?.aborted) throw new MotError('ERR_ABORTED', 'preparing the data set was stopped', { cause: error });
    throw error;
  }
  return { folder, manifest: readManifest(folder), cached: false };
}

/** Hash of all that the data follow from: options, and the packages that {@link findDataPackages} found. */
export function fingerprintOf(options: EmojiOptions, folders: Record<DataPackage, string>): string {
  const versions = Object.entries(folders).map(([name, folder]) => [name, packageVersion(folder)]);
  const { vips, rsvg } = sharp.versions;
  return createHash('sha256')
    .update(JSON.stringify({ revision: REVISION, options, versions, vips, rsvg }))
    .digest('hex');
}

/** The manifest of the same data set, if it is there already. MotError ERR_FILE_WRITE for what is no data set. */
function cachedManifest(folder: string, fingerprint: string): DatasetManifest | undefined {
  if (!existsSync(folder)) return undefined;
  if (statSync(folder).isDirectory()) {
    if (readdirSync(folder).length === 0) return undefined;
    try {
      const manifest = readManifest(folder);
      return manifest.fingerprint === fingerprint ? manifest : undefined;
    } catch {
      // Not ours to replace.
    }
  }
  throw new MotError(
    'ERR_FILE_WRITE',
    `${folder} is something that mot prepare did not make; choose another place or remove it`,
  );
}

/** Renames a finished folder to its place. Another process may have been faster: then its result is as good. */
function moveIntoPlace(partial: string, folder: string, fingerprint: string): void {
  try {
    if (cachedManifest(folder, fingerprint)) {
      rmSync(partial, { recursive: true, force: true });
      return;
    }
    if (existsSync(folder)) {
      const old = `${partial}-old`;
      renameSync(folder, old);
      renameSync(partial, folder);
      rmSync(old, { recursive: true, force: true });
    } else renameSync(partial, folder);
  } catch (cause) {
    if (cause instanceof MotError) throw cause;
    throw new MotError('ERR_FILE_WRITE', `cannot write ${folder}; choose a folder that can be written`, { cause });
  }
}
