import { z } from 'zod';
import { applyOverrides, readConfigFile, type ConfigSource } from '../../config/file.js';
import { parseWith, show } from '../../config/parse.js';
import { MotError } from '../../errors.js';

const count = z.int().min(0);
const positive = z.int().min(1);
const path = z.string().min(1);
const paths = z.union([path, z.array(path).min(1)]).transform((value) => (typeof value === 'string' ? [value] : value));

/** Modalities that need no module. */
const BUILT_IN = ['text', 'image', 'speech'];
const OWN_NAME = /^[a-z][a-z0-9_]*$/;

/** Keys that sources of every kind have. */
const common = {
  /** How often each document stands in the training split: 2 twice, 0.5 a random half of them, 0 none. */
  weight: z.number().min(0).max(100).default(1),
  /** `given`: segments as the source has them; `random`: shuffled within each document, by a keyed hash of it. */
  order: z.enum(['given', 'random']).default('given'),
  /** Folder that paths of pictures and sounds start from and must stay in. Default: that of the file that names them. */
  root: path.optional(),
};

const column = z
  .strictObject({
    /** Name of a column, or of a key of JSON lines, of texts. */
    text: z.string().optional(),
    /** Of pictures: bytes, or `{bytes, path}` as Hugging Face stores them; in JSON lines a path or data URI. */
    image: z.string().optional(),
    /** Of sounds, as those of pictures. */
    audio: z.string().optional(),
  })
  .refine((value) => Object.keys(value).length === 1, 'a column has one key: text, image or audio');

/** Sources by kind; the key that names the kind holds a path, a glob or a list of them, from the working folder. */
export const sourceSchemas = {
  jsonl: z.strictObject({
    /** JSON lines, plain or gzip: a segment, a list of segments, or `{"segments": [...], "key": ...}`. */
    jsonl: paths,
    /**
     * The keys of a line that are the segments of a document, in this order, where they have other names: `[{ text: caption },
     * { image: file_name }]`. Default: segments as above.
     */
    columns: z.array(column).min(1).optional(),
    ...common,
  }),
  text: z.strictObject({
    /** Text in UTF-8, plain or gzip. */
    text: paths,
    /** What a document is: a file, a line, or a paragraph (between blank lines). */
    by: z.enum(['file', 'line', 'paragraph']).default('paragraph'),
    ...common,
  }),
  webdataset: z.strictObject({
    /** Tar files of WebDataset, plain or gzip: members that share a key are one document, text first. */
    webdataset: paths,
    ...common,
  }),
  parquet: z.strictObject({
    /** Parquet files. */
    parquet: paths,
    /** The columns that are the segments of a document, in this order. */
    columns: z.array(column).min(1),
    ...common,
  }),
};

const textTokenizer = z.strictObject({
  /** A Hugging Face `tokenizer.json` to use; none: one is trained. */
  file: z.string().min(1).optional(),
  /** Ids of a trained one at most, the 256 bytes included and the special tokens not. */
  vocabulary: z
    .int()
    .min(256)
    .max(2 ** 20)
    .default(4096),
  /** Texts that are one token each wherever they stand. */
  special_tokens: z.array(z.string().min(1)).default([]),
});

/** A tokenizer of another data set. */
const tokenizerFile = {
  /**
   * Tokenizer of another data set to use, `FOLDER/image_tokenizer.safetensors` or `speech_tokenizer.safetensors`: ids keep
   * their meaning, so that a model of that set can be fine-tuned. Its sizes are the file's. Default: one is made.
   */
  file: path.optional(),
};

/** Keys of a tokenizer that a module of the user's makes. */
const moduleKeys = {
  /** Path of a JavaScript module that makes the tokenizer, from the working folder. Default: the built-in one. */
  module: path.optional(),
  /** What the module is given; it says what it takes. */
  options: z.unknown().optional(),
};

const imageTokenizer = z.strictObject({
  ...tokenizerFile,
  ...moduleKeys,
  /** Side of the pictures in pixels, a multiple of `patch`. A picture has `(size / patch)^2 * stages` tokens. */
  size: z.int().min(1).max(4096).default(32),
  /** Side of a patch in pixels. */
  patch: z.int().min(1).max(64).default(4),
  /** Codes of a stage. */
  codes: z.int().min(2).max(65536).default(512),
  /** Stages: tokens of a patch. */
  stages: z.int().min(1).max(8).default(2),
  /** Other proportions: `cover` cuts off what hangs over, `letterbox` shows all between white bars. */
  fit: z.enum(['cover', 'letterbox']).default('cover'),
});

const speechTokenizer = z.strictObject({
  ...tokenizerFile,
  ...moduleKeys,
  /** Units, 25 a second before repeats are removed. */
  units: z.int().min(2).max(65536).default(500),
});

/** What `mot prepare CONFIG` reads. */
export const ownSchema = z
  .strictObject({
    /** Folder of the data set. */
    out: z.string().min(1),
    /** What it is made of: any number of sources, mixed. */
    sources: z.array(z.record(z.string(), z.unknown())).min(1),
    /**
     * Which of text (always), image, speech and those of your own; documents with others are skipped. Default: what the
     * sources have.
     */
    modalities: z.array(z.string()).optional(),
    /** How each modality becomes tokens. */
    tokenizers: z
      .strictObject({
        /** Byte-level BPE, trained on the sources or read from a file. */
        text: textTokenizer.prefault({}),
        /** Codes of patches, learnt from the sources' pictures. */
        image: imageTokenizer.prefault({}),
        /** Units of log-mel features, learnt from the sources' sounds. */
        speech: speechTokenizer.prefault({}),
        /** Modalities of your own, by name: `{"NAME": value}` is a segment of a JSON line then. */
        own: z
          .record(
            z.string().regex(OWN_NAME, 'names begin with a-z and go on with a-z, 0-9 and _'),
            z.strictObject({ ...moduleKeys, /** Path of the module. */ module: path }),
          )
          .prefault({}),
      })
      .prefault({}),
    /** Shares of the documents that training does not see; equal documents, or those of one `key`, stay together. */
    split: z
      .strictObject({
        /** For the split `validation`. */
        validation: z.number().min(0).max(0.9).default(0.02),
        /** For the split `heldout`. */
        heldout: z.number().min(0).max(0.9).default(0),
      })
      .prefault({}),
    /** Tokens of the longest document; `train.seq_len` must hold it. */
    max_tokens: z
      .int()
      .min(8)
      .max(2 ** 24)
      .default(512),
    /** Text that is longer: `split` into documents, or `skip`. Longer documents of other modalities are skipped. */
    long_text: z.enum(['split', 'skip']).default('split'),
    /** What is larger is skipped. */
    limits: z
      .strictObject({
        /** Pixels of a picture file. */
        image_pixels: positive.default(50_000_000),
        /** Seconds of a sound. */
        audio_seconds: z.number().gt(0).max(3600).default(60),
        /** MB (10^6 bytes) of a file, line, member or value. */
        file_mb: z.number().gt(0).max(2000).default(64),
      })
      .prefault({}),
    /** Documents of each source that tokenizers are learnt from. */
    sample: positive.default(2000),
    /** Tokens of a shard. */
    shard_tokens: positive.default(2 ** 24),
    /** Of splits, samples, weights and codebooks. */
    seed: count.default(0),
  })
  .superRefine(({ tokenizers: { image, text, own }, modalities, split }, context) => {
    const names = [...BUILT_IN, ...Object.keys(own)];
    for (const [i, name] of (modalities ?? []).entries())
      if (!names.includes(name))
        context.addIssue({ code: 'custom', path: ['modalities', i], message: `must be one of ${names.join(', ')}` });
    for (const name of Object.keys(own))
      if ([...BUILT_IN, 'audio', 'segments', 'key', 'shared'].includes(name))
        context.addIssue({
          code: 'custom',
          path: ['tokenizers', 'own', name],
          message: 'the name has a meaning already; choose another',
        });
    if (image.size % image.patch !== 0)
      context.addIssue({
        code: 'custom',
        path: ['tokenizers', 'image', 'size'],
        message: `patches of ${image.patch} pixels do not tile pictures of ${image.size}; choose a multiple`,
      });
    if (text.file !== undefined && text.special_tokens.length > 0)
      context.addIssue({
        code: 'custom',
        path: ['tokenizers', 'text', 'special_tokens'],
        message: 'special_tokens are for a trained tokenizer; those of a file are in the file',
      });
    if (split.validation + split.heldout >= 1)
      context.addIssue({
        code: 'custom',
        path: ['split'],
        message: 'validation and heldout leave nothing to train on',
      });
  });

/** What a source is. */
export type SourceKind = keyof typeof sourceSchemas;

/** A source with its defaults. */
export interface SourceOptions {
  kind: SourceKind;
  /** Path patterns. */
  patterns: string[];
  weight: number;
  order: 'given' | 'random';
  root?: string;
  /** Of `text`. */
  by?: 'file' | 'line' | 'paragraph';
  /** Of `parquet` and `jsonl`: kind of segment, and name of the column or key. */
  columns?: { kind: 'text' | 'image' | 'audio'; column: string }[];
}

/** Options with every default filled in. */
export type OwnOptions = Omit<z.output<typeof ownSchema>, 'sources'> & { sources: SourceOptions[] };

/**
 * Checks a config of `mot prepare`.
 *
 * @throws MotError ERR_CONFIG with the line or override and, for an unknown key, the nearest known one.
 */
export function parseOwnOptions({ value, where }: ConfigSource): OwnOptions {
  const options = parseWith(ownSchema, value, 'config of the data set', { where });
  for (const modality of ['image', 'speech'] as const) checkFileAlone(modality, { value, where });
  const kinds = Object.keys(sourceSchemas) as SourceKind[];
  const sources = options.sources.map((source, i): SourceOptions => {
    const [kind, other] = kinds.filter((key) => Object.hasOwn(source, key));
    if (kind === undefined || other !== undefined)
      throw new MotError(
        'ERR_CONFIG',
        `config of the data set: ${where(['sources', i])}sources[${i}] must have one of the keys ${kinds.join(', ')}, got ${show(source)}.`,
      );
    const parsed = parseWith(sourceSchemas[kind], source, `sources[${i}] of the data set`, {
      where: (path) => where(['sources', i, ...path]),
    }) as Record<string, unknown>;
    const { [kind]: patterns, columns, ...rest } = parsed;
    const listed = (columns as Record<string, string>[] | undefined)?.map((entry) => {
      const [name, column] = Object.entries(entry)[0]!;
      return { kind: name as 'text' | 'image' | 'audio', column };
    });
    return {
      kind,
      patterns: patterns as string[],
      ...(rest as Pick<SourceOptions, 'weight' | 'order'>),
      ...(listed ? { columns: listed } : {}),
    };
  });
  return { ...options, sources };
}

/** A tokenizer that is read from a file has its sizes: a key that asks for others would be without effect. */
function checkFileAlone(modality: 'image' | 'speech', { value, where }: ConfigSource): void {
  const given = (value as { tokenizers?: Record<string, Record<string, unknown> | undefined> }).tokenizers?.[modality];
  if (given?.['file'] === undefined) return;
  const other = Object.keys(given).find((key) => key !== 'file' && key !== 'fit');
  if (other !== undefined)
    throw new MotError(
      'ERR_CONFIG',
      `config of the data set: ${where(['tokenizers', modality, other])}tokenizers.${modality}.${other} cannot be set beside file, which has the tokenizer made already; take one out.`,
    );
}

/**
 * Reads a config of `mot prepare` and puts `key=value` overrides over it.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_USAGE, ERR_CONFIG.
 * @example
 * const { manifest } = await prepareOwn(readOwnOptions('own-data.yaml', ['out=data/mine']));
 */
export function readOwnOptions(path: string, overrides: readonly string[] = []): OwnOptions {
  return parseOwnOptions(applyOverrides(readConfigFile(path), overrides));
}
