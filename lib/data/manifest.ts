import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { parseWith } from '../config/parse.js';
import { MotError } from '../errors.js';
import type { DatasetManifest, SplitName } from './dataset.js';
import { ShardSource } from './shard.js';

const count = z.int().min(0);
const range = z.strictObject({ begin: count, end: count });
/** A file of the data set: inside its folder. */
const fileName = z.string().regex(/^[\w.-]+$/);
const baselines = z.record(z.string(), z.object({ unigram: z.number(), bigram: z.number() }));
const split = z.object({
  shards: z.array(z.object({ file: fileName, documents: count, tokens: count, crc32: z.string().exactOptional() })),
  documents: count,
  tokens: count,
  targets: z.record(z.string(), count),
});

/** The manifest as it must be to be read; keys that are not known are left out. */
const manifestSchema = z.object({
  format: z.literal('mot-dataset'),
  version: z.literal(1),
  name: z.string(),
  fingerprint: z.string(),
  options: z.record(z.string(), z.unknown()).optional(),
  inputs: z.string().exactOptional(),
  vocabulary: z.object({
    size: count,
    modalities: z.array(z.string().regex(/^[a-z][a-z0-9_]*$/)).min(1),
    special: z.record(z.string(), count),
    ranges: z.record(z.string(), range),
    continuous: z.record(z.string(), z.int().min(1)).optional(),
  }),
  tokenizers: z.record(z.string(), z.object({ file: fileName, sha256: z.string() })),
  codecs: z.record(z.string(), z.object({ file: fileName, sha256: z.string() })).optional(),
  splits: z.object({ train: split, validation: split, heldout: split }),
  longestDocument: count,
  baselines: z.object({ validation: baselines, heldout: baselines }),
  examples: z.array(z.object({ name: z.string(), caption: z.string(), known: z.boolean(), spoken: z.boolean() })),
  attribution: z.array(z.object({ what: z.string(), by: z.string(), licence: z.string(), url: z.string() })),
  imageFit: z.enum(['cover', 'letterbox']).exactOptional(),
  sources: z
    .array(
      z.object({
        kind: z.string(),
        patterns: z.array(z.string()),
        files: count,
        items: count,
        skipped: count,
        documents: count,
        tokens: z.record(z.string(), count),
      }),
    )
    .exactOptional(),
});

/**
 * Reads and checks the manifest of a data set.
 *
 * @throws MotError ERR_FILE_OPEN when there is none, ERR_FILE_FORMAT when it is not what it should be.
 */
export function readManifest(folder: string): DatasetManifest {
  const path = join(folder, 'manifest.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new MotError('ERR_FILE_OPEN', `${folder} is no prepared data set: cannot read ${path}; run mot prepare`, {
      cause,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MotError('ERR_FILE_FORMAT', `${path} is not valid JSON; prepare the data set again`, { cause });
  }
  // JSON has no undefined: an optional key is absent or has its value.
  const manifest = parseWith(manifestSchema, value, path, { code: 'ERR_FILE_FORMAT' }) as DatasetManifest;
  const { modalities, ranges, continuous = {} } = manifest.vocabulary;
  for (const name of Object.keys(continuous))
    if (modalities.indexOf(name) < 1 || ranges[name]!.end - ranges[name]!.begin !== 1)
      throw new MotError(
        'ERR_FILE_FORMAT',
        `${path}: the continuous modality ${name} needs one id, and cannot be the text; prepare the data set again`,
      );
  for (const modality of manifest.vocabulary.modalities)
    if (manifest.vocabulary.ranges[modality] === undefined)
      throw new MotError(
        'ERR_FILE_FORMAT',
        `${path}: the vocabulary has no range for ${modality}; prepare the data set again`,
      );
  return manifest;
}

/**
 * Writes the manifest; last of all files, since it makes the folder a data set.
 *
 * @throws MotError ERR_FILE_WRITE.
 */
export function writeManifest(folder: string, manifest: DatasetManifest): void {
  const path = join(folder, 'manifest.json');
  try {
    writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`);
  } catch (cause) {
    throw new MotError(
      'ERR_FILE_WRITE',
      `cannot write ${path}; check that the folder can be written and the disk has room`,
      {
        cause,
      },
    );
  }
}

/** Opens the documents of a split. Close the source after use. */
export async function openSplit(folder: string, manifest: DatasetManifest, name: SplitName): Promise<ShardSource> {
  return ShardSource.open(folder, manifest.splits[name], manifest.vocabulary, manifest.tokenizers);
}
