import { createHash } from 'node:crypto';
import { readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { parseWith } from '../config/parse.js';
import { MotError } from '../errors.js';
import { writeFileAtomic } from '../io/files.js';
import type { SpanRule, Tokenizer } from './tokenizer.js';

/**
 * A tokenizer whose encoder and decoder may take their time, such as ONNX models. What prepares data, generates and
 * inspects awaits them; encodeSegments and decodeDocument, which cannot, refuse one that gives promises.
 */
export interface AsyncTokenizer<Raw> extends Pick<Tokenizer<Raw>, 'size' | 'rule'> {
  encode(raw: Raw): Int32Array | Promise<Int32Array>;
  decode(ids: ArrayLike<number>): Raw | Promise<Raw>;
}

/** What `create` of a module is given. */
export interface ModuleContext<Raw> {
  modality: string;
  /** `options` of the config, as they stand there. */
  options: unknown;
  /** Raw values of the training split: at most `sample` documents of each source. */
  samples: readonly Raw[];
  /** Of everything that is drawn. */
  seed: number;
}

/** What the module of a modality exports as `default`. `State` is plain JSON, kept in the data set. */
export interface ModalityModule<Raw = unknown, State = unknown> {
  /** Learns from samples, or only checks its options. Runs in a worker. */
  create(context: ModuleContext<Raw>): State | Promise<State>;
  /** The tokenizer of a state: the same state must give the same ids. */
  load(state: State): AsyncTokenizer<Raw> | Promise<AsyncTokenizer<Raw>>;
  /**
   * The raw value of what a line of JSON has under the modality's name. What it throws is the reason why the document is
   * skipped. Default: the value as it is. Not for image and speech, whose raw values are Picture and Sound.
   */
  parse?(value: unknown): Raw;
}

/** The file that keeps such a tokenizer in a data set. */
const fileSchema = z.strictObject({
  format: z.literal('mot-module'),
  modality: z.string(),
  /** As the config has it: from the working folder. */
  module: z.string().min(1),
  /** SHA-256 of the module's file. */
  sha256: z.string(),
  /** Side of pictures that its encoder takes, pixels; only of the modality image. */
  pictureSize: z.int().min(1).optional(),
  state: z.unknown(),
});

type ModuleFile = z.output<typeof fileSchema>;

/** A tokenizer that a module of the user's made. */
export class ModuleTokenizer implements Tokenizer<unknown> {
  readonly modality: string;
  readonly #file: ModuleFile;
  readonly #inner: AsyncTokenizer<unknown>;

  readonly #parse: ModalityModule['parse'];

  private constructor(file: ModuleFile, inner: AsyncTokenizer<unknown>, parse: ModalityModule['parse']) {
    this.modality = file.modality;
    this.#file = file;
    this.#inner = inner;
    this.#parse = parse;
  }

  /** The raw value of a value in JSON. Throws what the module's `parse` throws. */
  parse(value: unknown): unknown {
    return this.#parse ? this.#parse(value) : value;
  }

  /**
   * Opens the tokenizer of a state that the module's `create` gave.
   *
   * @throws MotError ERR_FILE_OPEN, ERR_ARGUMENT for a module that does not do what it must.
   */
  static async of(
    modality: string,
    module: string,
    state: unknown,
    options: { pictureSize?: number } = {},
  ): Promise<ModuleTokenizer> {
    const file: ModuleFile = { format: 'mot-module', modality, module, sha256: hashOf(module), ...options, state };
    return open(file, (inner, parse) => new ModuleTokenizer(file, inner, parse));
  }

  /**
   * Reads the file of a data set. The module that it names is run, so it must be the one that the data set was prepared
   * with, below the working folder, and no part of the data set.
   *
   * @throws MotError ERR_FILE_FORMAT, ERR_FILE_OPEN, ERR_DATA, ERR_ARGUMENT.
   */
  static async read(at: string): Promise<ModuleTokenizer> {
    let value: unknown;
    try {
      value = JSON.parse(readFileSync(at, 'utf8'));
    } catch (cause) {
      throw new MotError('ERR_FILE_FORMAT', `${at} is not valid JSON; prepare the data set again`, { cause });
    }
    const file = parseWith(fileSchema, value, at, { code: 'ERR_FILE_FORMAT' });
    if (hashOf(file.module) !== file.sha256)
      throw new MotError(
        'ERR_DATA',
        `${file.module} is another module than the data set was prepared with (${at}); put the old one back, or prepare the data set again`,
      );
    const real = realpathSync(file.module);
    if (isInside(path.dirname(at), real) || !isInside('.', real))
      throw new MotError(
        'ERR_DATA',
        `${at} names the module ${file.module}, which is not run: it must lie below the working folder and outside the data set`,
      );
    return open(file, (inner, parse) => new ModuleTokenizer(file, inner, parse));
  }

  /** Writes the file that `read` reads. */
  save(at: string): void {
    writeFileAtomic(at, `${JSON.stringify(this.#file, null, 2)}\n`);
  }

  get size(): number {
    return this.#inner.size;
  }

  /** Side of pictures that its encoder takes, pixels; undefined for other modalities than image. */
  get pictureSize(): number | undefined {
    return this.#file.pictureSize;
  }

  rule(length: number): SpanRule {
    return this.#inner.rule(length);
  }

  // The type of Tokenizer says that these are no promises; whatever may meet a module's tokenizer awaits them.
  encode(raw: unknown): Int32Array {
    return this.#inner.encode(raw) as Int32Array;
  }

  decode(ids: ArrayLike<number>): unknown {
    return this.#inner.decode(ids);
  }
}

function isInside(folder: string, file: string): boolean {
  const relative = path.relative(realpathSync(folder), file);
  return relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative);
}

function hashOf(module: string): string {
  try {
    return createHash('sha256').update(readFileSync(module)).digest('hex');
  } catch (cause) {
    throw new MotError('ERR_FILE_OPEN', `cannot read the module ${module}; paths start from the working folder`, {
      cause,
    });
  }
}

/**
 * Imports the module of a modality; its path starts from the working folder.
 *
 * @throws MotError ERR_FILE_OPEN where it cannot be imported, ERR_ARGUMENT where its default export is not what it must be.
 */
export async function importModality(module: string): Promise<ModalityModule> {
  let imported: { default?: Partial<ModalityModule> };
  try {
    imported = (await import(pathToFileURL(path.resolve(module)).href)) as typeof imported;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const hint =
      code === 'ERR_UNKNOWN_FILE_EXTENSION'
        ? `Node ${process.version} imports no TypeScript; compile it (npx tsc) and name the .js file`
        : message;
    throw new MotError('ERR_FILE_OPEN', `cannot import the module ${module}: ${hint}`, { cause });
  }
  const { default: made } = imported;
  for (const name of ['create', 'load'] as const)
    if (typeof made?.[name] !== 'function')
      throw new MotError(
        'ERR_ARGUMENT',
        `${module}: its default export must have the functions create and load; ${name} is missing`,
      );
  return made as ModalityModule;
}

async function open<T>(
  { module, modality, state }: ModuleFile,
  make: (tokenizer: AsyncTokenizer<unknown>, parse: ModalityModule['parse']) => T,
): Promise<T> {
  const made = await importModality(module);
  let tokenizer: AsyncTokenizer<unknown>;
  try {
    tokenizer = await made.load(state);
  } catch (cause) {
    throw new MotError('ERR_DATA', `${module}: load for ${modality} failed: ${(cause as Error).message}`, { cause });
  }
  for (const name of ['encode', 'decode', 'rule'] as const)
    if (typeof tokenizer?.[name] !== 'function')
      throw new MotError('ERR_ARGUMENT', `${module}: the tokenizer that load gives for ${modality} has no ${name}()`);
  if (!Number.isSafeInteger(tokenizer.size) || tokenizer.size < 1)
    throw new MotError(
      'ERR_ARGUMENT',
      `${module}: size of the tokenizer for ${modality} must be a whole number of at least 1, got ${String(tokenizer.size)}`,
    );
  return make(tokenizer, made.parse?.bind(made));
}
