import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { DatasetManifest } from '../data/dataset.js';
import { MotError } from '../errors.js';
import { SafetensorsFile, writeSafetensors } from '../io/safetensors.js';
import type { Codecs, LatentCodec } from './codec.js';
import type { Tokenizers } from './document.js';
import { ImageTokenizer } from './image/patch_codebook.js';
import { PixelCodec } from './image/pixel_codec.js';
import { SpeechTokenizer } from './speech/speech_units.js';
import { ModuleTokenizer } from './module.js';
import type { NamedTensor, TensorSet } from './tensors.js';
import { TextTokenizer } from './text/bpe.js';
import { HubTextTokenizer } from './text/hub_tokenizer.js';
import { loadTextTokenizer, saveTextTokenizer } from './text/tokenizer_json.js';
import type { Tokenizer } from './tokenizer.js';

export * from './document.js';

/** How the tokenizer of a modality is kept in a data set. */
export interface TokenizerFormat {
  /** Name of its file. */
  file: string;
  /** Throws (ERR_ARGUMENT) for a tokenizer of another kind. */
  save(path: string, tokenizer: Tokenizer<unknown>): Promise<void>;
  load(path: string): Promise<Tokenizer<unknown>>;
}

/** Formats of the built-in modalities, by modality. */
export const tokenizerFormats: Readonly<Record<string, TokenizerFormat>> = {
  text: {
    file: 'tokenizer.json',
    save: async (path, tokenizer) => {
      if (!(tokenizer instanceof TextTokenizer || tokenizer instanceof HubTextTokenizer)) throw wrongKind(tokenizer);
      await saveTextTokenizer(path, tokenizer);
    },
    load: loadTextTokenizer,
  },
  image: {
    file: 'image_tokenizer.safetensors',
    save: async (path, tokenizer) => {
      if (!(tokenizer instanceof ImageTokenizer)) throw wrongKind(tokenizer);
      await saveTensors(path, tokenizer.toTensors());
    },
    load: async (path) => ImageTokenizer.fromTensors(await loadTensors(path)),
  },
  speech: {
    file: 'speech_tokenizer.safetensors',
    save: async (path, tokenizer) => {
      if (!(tokenizer instanceof SpeechTokenizer)) throw wrongKind(tokenizer);
      await saveTensors(path, tokenizer.toTensors());
    },
    load: async (path) => SpeechTokenizer.fromTensors(await loadTensors(path)),
  },
};

/**
 * Writes tokenizers into the folder of a data set; returns the `tokenizers` part of its manifest. For own modalities
 * give `formats` that know them: `{ ...tokenizerFormats, depth: ... }`.
 */
export async function saveTokenizers(
  folder: string,
  tokenizers: Tokenizers,
  formats: Readonly<Record<string, TokenizerFormat>> = tokenizerFormats,
): Promise<DatasetManifest['tokenizers']> {
  const entries: DatasetManifest['tokenizers'] = {};
  for (const [modality, tokenizer] of Object.entries(tokenizers)) {
    if (tokenizer instanceof ModuleTokenizer) {
      const file = moduleFile(modality);
      tokenizer.save(join(folder, file));
      entries[modality] = { file, sha256: await sha256(join(folder, file)) };
      continue;
    }
    const { file, save } = expectFormat(modality, formats);
    await save(join(folder, file), tokenizer);
    entries[modality] = { file, sha256: await sha256(join(folder, file)) };
  }
  return entries;
}

/**
 * Reads the tokenizers of a data set's discrete modalities; their files must be the ones of the manifest and fit its
 * vocabulary.
 */
export async function loadTokenizers(
  folder: string,
  manifest: Pick<DatasetManifest, 'tokenizers' | 'vocabulary'>,
  formats: Readonly<Record<string, TokenizerFormat>> = tokenizerFormats,
): Promise<Tokenizers> {
  const tokenizers: Tokenizers = {};
  for (const modality of manifest.vocabulary.modalities) {
    if (manifest.vocabulary.continuous?.[modality] !== undefined) continue;
    const entry = manifest.tokenizers[modality];
    const range = manifest.vocabulary.ranges[modality];
    if (entry === undefined || range === undefined) {
      throw new MotError(
        'ERR_DATA',
        `the manifest in ${folder} has no tokenizer for ${modality}; prepare the data set again`,
      );
    }
    const path = await expectFile(folder, entry);
    const tokenizer = await loadTokenizer(modality, path, formats);
    if (tokenizer.size !== range.end - range.begin) {
      throw new MotError(
        'ERR_DATA',
        `${path} has ${tokenizer.size} ids, the vocabulary has ${range.end - range.begin}; prepare the data set again`,
      );
    }
    tokenizers[modality] = tokenizer;
  }
  return tokenizers;
}

/** Reads the tokenizer file of a data set, the built-in one of its modality or that of a module. */
export async function loadTokenizer(
  modality: string,
  path: string,
  formats: Readonly<Record<string, TokenizerFormat>> = tokenizerFormats,
): Promise<Tokenizer<unknown>> {
  return basename(path) === moduleFile(modality)
    ? await ModuleTokenizer.read(path)
    : await expectFormat(modality, formats).load(path);
}

/** How the codecs of continuous modalities are read, by modality. */
export const codecFormats: Readonly<Record<string, (tensors: TensorSet) => LatentCodec<unknown>>> = {
  image: (tensors) => PixelCodec.fromTensors(tensors) as LatentCodec<unknown>,
};

/** Writes codecs into the folder of a data set; returns the `codecs` part of its manifest. */
export async function saveCodecs(folder: string, codecs: Codecs): Promise<NonNullable<DatasetManifest['codecs']>> {
  const entries: NonNullable<DatasetManifest['codecs']> = {};
  for (const [modality, codec] of Object.entries(codecs)) {
    const file = `${modality}_codec.safetensors`;
    await saveTensors(join(folder, file), codec.toTensors());
    entries[modality] = { file, sha256: await sha256(join(folder, file)) };
  }
  return entries;
}

/**
 * Reads the codecs of a data set's continuous modalities; none where all are discrete. For own codecs give `formats` that
 * know them.
 *
 * @throws MotError ERR_DATA for files that are not the manifest's, or of another width than its vocabulary says;
 *   ERR_ARGUMENT for a modality without format.
 */
export async function loadCodecs(
  folder: string,
  manifest: Pick<DatasetManifest, 'codecs' | 'vocabulary'>,
  formats: typeof codecFormats = codecFormats,
): Promise<Codecs> {
  const codecs: Codecs = {};
  for (const [modality, patchDim] of Object.entries(manifest.vocabulary.continuous ?? {})) {
    const entry = manifest.codecs?.[modality];
    if (entry === undefined)
      throw new MotError(
        'ERR_DATA',
        `the manifest in ${folder} has no codec for ${modality}; prepare the data set again`,
      );
    const path = await expectFile(folder, entry);
    const fromTensors = Object.hasOwn(formats, modality) ? formats[modality] : undefined;
    if (fromTensors === undefined)
      throw new MotError(
        'ERR_ARGUMENT',
        `no codec format for modality ${modality}; give formats that hold one (known: ${Object.keys(formats).join(', ')})`,
      );
    const codec = fromTensors(await loadTensors(path));
    if (codec.patchDim !== patchDim)
      throw new MotError(
        'ERR_DATA',
        `${path} makes patches of ${codec.patchDim} numbers, the vocabulary says ${patchDim}; prepare the data set again`,
      );
    codecs[modality] = codec;
  }
  return codecs;
}

/** Path of a file of a data set; it must be the one that the manifest names. */
async function expectFile(
  folder: string,
  { file, sha256: expected }: { file: string; sha256: string },
): Promise<string> {
  const path = join(folder, file);
  if ((await sha256(path)) !== expected)
    throw new MotError('ERR_DATA', `${path} is not the file that the manifest names; prepare the data set again`);
  return path;
}

/** The file of a tokenizer that a module made. */
function moduleFile(modality: string): string {
  return `${modality}_tokenizer.json`;
}

function expectFormat(modality: string, formats: Readonly<Record<string, TokenizerFormat>>): TokenizerFormat {
  const format = Object.hasOwn(formats, modality) ? formats[modality] : undefined;
  if (format === undefined) {
    throw new MotError(
      'ERR_ARGUMENT',
      `no tokenizer format for modality ${modality}; give formats that hold one (known: ${Object.keys(formats).join(', ')})`,
    );
  }
  return format;
}

function wrongKind(tokenizer: Tokenizer<unknown>): MotError {
  return new MotError(
    'ERR_ARGUMENT',
    `the built-in format of ${tokenizer.modality} keeps the built-in tokenizer only; give saveTokenizers a format for yours`,
  );
}

async function sha256(path: string): Promise<string> {
  try {
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  } catch (cause) {
    throw new MotError('ERR_FILE_OPEN', `could not read ${path}; prepare the data set again`, { cause });
  }
}

async function saveTensors(path: string, tensors: TensorSet): Promise<void> {
  await writeSafetensors(path, tensors, { format: 'mot-tokenizer' });
}

async function loadTensors(path: string): Promise<TensorSet> {
  const file = await SafetensorsFile.open(path);
  try {
    const entries = file.tensors.map(({ name, dtype, shape }): [string, NamedTensor] => {
      if (dtype !== 'F32') {
        throw new MotError(
          'ERR_FILE_FORMAT',
          `${path}: tensor ${name} is ${dtype}, not F32; prepare the data set again`,
        );
      }
      return [name, { shape, data: file.read(name) as Float32Array }];
    });
    return Object.fromEntries(entries);
  } finally {
    file.close();
  }
}
