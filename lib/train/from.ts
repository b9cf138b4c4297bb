import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { parseModelConfig, type ModelConfig } from '../config/model_config.js';
import { parseWith } from '../config/parse.js';
import type { TrainConfig } from '../config/train_config.js';
import type { DatasetManifest } from '../data/dataset.js';
import { readManifest } from '../data/manifest.js';
import { MotError } from '../errors.js';
import { SafetensorsFile } from '../io/safetensors.js';
import { Model, type TensorKind, type TensorShape } from '../model/model.js';
import { EMA_FILE, MODEL_FILE, openCheckpoint, type Checkpoint } from './checkpoint.js';

/** `train.from` of a run config. */
export type FromConfig = NonNullable<TrainConfig['from']>;

/** What the token ids of a data set mean. */
export type TokenMeanings = Pick<DatasetManifest, 'vocabulary' | 'tokenizers'>;

/** Key, in the metadata of weights, of their token ids and the hashes of their tokenizers, as JSON. */
const VOCABULARY_METADATA = 'vocabulary';

/** Metadata for weights that are trained on a data set, by which another run finds their token ids again. */
export function vocabularyMetadata(data: TokenMeanings): Record<string, string> {
  return { [VOCABULARY_METADATA]: JSON.stringify(tokenIds(data)) };
}

function tokenIds({ vocabulary, tokenizers }: TokenMeanings): TokenIds {
  const hashes = Object.entries(tokenizers).map(([modality, { sha256 }]) => [modality, sha256] as const);
  return { ...vocabulary, tokenizers: Object.fromEntries(hashes) };
}

/** Settings that decide what the same weights compute; they cannot change. */
const FIXED = [
  'd_model',
  'n_layers',
  'n_heads',
  'n_kv_heads',
  'head_dim',
  'ffn_dim',
  'norm_placement',
  'qk_norm',
  'norm_eps',
  'rope_theta',
] as const satisfies (keyof ModelConfig)[];

/** Tensors with a row for every token id. */
const BY_TOKEN: ReadonlySet<string> = new Set(['embed_tokens.weight', 'lm_head.weight']);

const id = z.int().min(0);
const vocabularySchema = z.object({
  special: z.record(z.string(), id),
  ranges: z.record(z.string(), z.object({ begin: id, end: id })),
  /** SHA-256 of the tokenizer of each modality; weights of earlier versions do not say. */
  tokenizers: z.record(z.string(), z.string()).default({}),
});
type TokenIds = z.output<typeof vocabularySchema>;

/** `count` rows from row `from` on become rows from row `to` on. */
interface Rows {
  from: number;
  to: number;
  count: number;
}

/** A tensor of the model that begins with values of the file. */
interface Copy {
  name: string;
  source: string;
  /** Absent: the whole tensor. */
  rows?: readonly Rows[];
}

/** Weights of an earlier run with which another one begins. Close it. */
export class StartWeights implements Disposable {
  private constructor(
    private readonly file: SafetensorsFile,
    private readonly copies: readonly Copy[],
    /** What begins with what, to be told to the user. */
    readonly sentence: string,
  ) {}

  /**
   * Opens the weights and checks that a model can begin with them, before any time is spent on training.
   *
   * @param config The model that is to begin with them.
   * @param data Token ids of its data set, and their tokenizers.
   * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT; ERR_CONFIG where the two do not go together, saying what to change.
   */
  static async open(from: FromConfig, config: ModelConfig, data: TokenMeanings): Promise<StartWeights> {
    const { path, checkpoint } = locate(from);
    const file = await SafetensorsFile.open(path);
    try {
      const source = sourceConfig(file);
      checkFixed(file, source, config);
      const { tensors } = Model.describe(config, { training: false });
      const plan = new Plan(file, path, from, tensors, source);
      const ids = rowsOfTokens(path, oldIds(file, checkpoint), tokenIds(data), file, config.vocab);
      const copies = tensors.flatMap(({ name, shape }) => plan.copy(name, shape, ids.rows) ?? []);
      return new StartWeights(file, copies, plan.sentence(ids, tensors.length - copies.length));
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** Gives the weights to a model, and with `ema` to the average of its weights; what is not copied stays as drawn. */
  async load(model: Model, { ema }: { ema: boolean }): Promise<void> {
    const kinds: TensorKind[] = ema ? ['weight', 'ema'] : ['weight'];
    for (const { name, source, rows } of this.copies) {
      let values = this.file.read(source) as Float32Array;
      if (rows) {
        const old = values;
        values = await model.readTensor('weight', name);
        const width = model.config.d_model;
        for (const { from, to, count } of rows)
          values.set(old.subarray(from * width, (from + count) * width), to * width);
      }
      for (const kind of kinds) await model.writeTensor(kind, name, values);
    }
  }

  [Symbol.dispose](): void {
    this.file.close();
  }
}

/** The file of weights that a path names: a run's or a checkpoint's, or a file by itself. */
function locate({ path, weights }: FromConfig): { path: string; checkpoint?: Checkpoint } {
  const isFile = existsSync(path) && statSync(path).isFile();
  if (isFile && weights !== undefined)
    throw new MotError(
      'ERR_CONFIG',
      `train.from.weights chooses between the files of a checkpoint, but train.from.path is the file ${path}; leave it out.`,
    );
  if (isFile) {
    const whole = existsSync(join(dirname(path), 'manifest.json')) && basename(path).endsWith('.safetensors');
    return whole ? { path, checkpoint: openCheckpoint(path) } : { path };
  }
  const checkpoint = openCheckpoint(path);
  const kind = weights ?? (checkpoint.ema ? 'ema' : 'raw');
  if (kind === 'ema' && !checkpoint.ema)
    throw new MotError(
      'ERR_CONFIG',
      `train.from.weights is ema, but ${checkpoint.path} has no averaged weights; leave it out, or say raw.`,
    );
  return { path: join(checkpoint.path, kind === 'ema' ? EMA_FILE : MODEL_FILE), checkpoint };
}

/** The config that a file was saved with; files of other programs have none. */
function sourceConfig(file: SafetensorsFile): ModelConfig | undefined {
  const text = file.metadata['config'];
  if (text === undefined) return undefined;
  return parseModelConfig(parseJson(text, file.path, 'config'), { what: `model config in ${file.path}` });
}

function parseJson(text: string, path: string, key: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MotError('ERR_FILE_FORMAT', `the metadata ${key} of ${path} is not valid JSON.`, { cause });
  }
}

function checkFixed(file: SafetensorsFile, source: ModelConfig | undefined, config: ModelConfig): void {
  const { path } = file;
  const other = FIXED.filter((key) => source && source[key] !== config[key]);
  const list = (values: Partial<ModelConfig>): string => other.map((key) => `${key} ${String(values[key])}`).join(', ');
  if (source && other.length > 0)
    throw new MotError(
      'ERR_CONFIG',
      `train.from: ${path} is of a model with ${list(source)}, this one has ${list(config)}; set ${other.map((key) => `model.${key}`).join(', ')} as there.`,
    );
  // A file without a config: other layers would be left out unnoticed.
  if (file.tensors.some(({ name }) => name.startsWith(`layers.${config.n_layers}.`)))
    throw new MotError(
      'ERR_CONFIG',
      `train.from: ${path} has more layers than model.n_layers, ${config.n_layers}; raise it.`,
    );
}

/** Token ids of the source: of its metadata, or, where it was saved by an earlier version, of its data set. */
function oldIds(file: SafetensorsFile, checkpoint: Checkpoint | undefined): TokenIds | undefined {
  const text = file.metadata[VOCABULARY_METADATA];
  if (text !== undefined)
    return parseWith(vocabularySchema, parseJson(text, file.path, VOCABULARY_METADATA), `vocabulary in ${file.path}`, {
      code: 'ERR_FILE_FORMAT',
    });
  if (!checkpoint) return undefined;
  const { folder, fingerprint } = checkpoint.state.dataset;
  if (!existsSync(join(folder, 'manifest.json'))) return undefined;
  const manifest = readManifest(folder);
  return manifest.fingerprint === fingerprint ? tokenIds(manifest) : undefined;
}

/** Token ids that keep their meaning, and the modalities whose ids do not, because their tokenizer is another one. */
interface KeptIds {
  rows: readonly Rows[];
  retokenized: readonly string[];
}

/** Which rows of the old embedding and head become which of the new ones: special tokens by name, others by modality. */
function rowsOfTokens(
  path: string,
  old: TokenIds | undefined,
  now: TokenIds,
  file: SafetensorsFile,
  size: number,
): KeptIds {
  const before = file.has('embed_tokens.weight') ? file.info('embed_tokens.weight').shape[0]! : 0;
  if (!old) {
    if (before === size) return { rows: [{ from: 0, to: 0, count: size }], retokenized: [] };
    throw new MotError(
      'ERR_CONFIG',
      `train.from: ${path} has ${before} token ids and does not say of which modality they are, and the data set has ${size}; name the checkpoint's folder, with its data set where it was, or use data of the same vocabulary.`,
    );
  }
  const rows: Rows[] = [];
  const retokenized: string[] = [];
  for (const [name, to] of Object.entries(now.special)) {
    const from = old.special[name];
    if (from !== undefined) rows.push({ from, to, count: 1 });
  }
  for (const [modality, { begin, end }] of Object.entries(now.ranges)) {
    const range = old.ranges[modality];
    if (!range) continue;
    const [was, is] = [old.tokenizers[modality], now.tokenizers[modality]];
    if (was !== undefined && is !== undefined && was !== is) {
      retokenized.push(modality);
      continue;
    }
    const count = range.end - range.begin;
    if (count > end - begin)
      throw new MotError(
        'ERR_CONFIG',
        `train.from: the ${modality} of ${path} has ${count} token ids, that of the data set only ${end - begin}, so their meanings differ; prepare the data with the tokenizer of that run${modality === 'text' ? ': `tokenizers: { text: { file: DATA/tokenizer.json } }` in the config of the data set' : ''}.`,
      );
    rows.push({ from: range.begin, to: begin, count });
  }
  if (rows.some(({ from, count }) => count < 0 || from + count > before))
    throw new MotError('ERR_FILE_FORMAT', `the vocabulary in the metadata of ${path} has ids beyond its embedding.`);
  return { rows, retokenized };
}

/** Tower of a tensor, and the part of a layer that it is of: a branch, or its norm; undefined for those without a tower. */
function towerOf(name: string): { tower: string; part: string } | undefined {
  const [first, second, tower, part] = name.split('.');
  if (first === 'norm') return { tower: second!, part: 'final' };
  return first === 'layers' ? { tower: tower!, part: part! } : undefined;
}

/** Finds the source of each tensor. */
class Plan {
  /** Towers of each part in the file. */
  private readonly towers = new Map<string, Set<string>>();
  private readonly taken = new Map<string, string>();
  private readonly drawn = new Set<string>();

  constructor(
    private readonly file: SafetensorsFile,
    private readonly path: string,
    private readonly from: FromConfig,
    tensors: readonly TensorShape[],
    private readonly source: ModelConfig | undefined,
  ) {
    for (const { name } of file.tensors) {
      const place = towerOf(name);
      if (place) this.towers.set(place.part, (this.towers.get(place.part) ?? new Set()).add(place.tower));
    }
    const known = new Set(tensors.flatMap(({ name }) => towerOf(name)?.tower ?? []));
    for (const tower of Object.keys(from.towers))
      if (!known.has(tower))
        throw new MotError(
          'ERR_CONFIG',
          `train.from.towers names ${tower}, but the towers of the model are ${[...known].join(', ')}.`,
        );
  }

  /** Where a tensor comes from; undefined: it stays as drawn. */
  copy(name: string, shape: readonly number[], rows: readonly Rows[]): Copy | undefined {
    const source = this.sourceOf(name);
    if (source === undefined) return undefined;
    if (!this.file.has(source)) {
      // A model without patches becomes one with patches.
      if (!towerOf(name) && !BY_TOKEN.has(name) && this.source && !this.source.diffusion) return undefined;
      throw new MotError(
        'ERR_CONFIG',
        `train.from: ${this.path} has no tensor ${source}, with which ${name} would begin; the two models must have the same parts and experts.`,
      );
    }
    const found = this.file.info(source);
    const same = BY_TOKEN.has(name) ? found.shape[1] === shape[1] : String(found.shape) === String(shape);
    if (!same || found.shape.length !== shape.length)
      throw new MotError(
        'ERR_CONFIG',
        `train.from: ${source} in ${this.path} has shape [${found.shape.join(', ')}], ${name} of this model has [${shape.join(', ')}]; use the sizes of that model.`,
      );
    if (found.dtype !== 'F32' && found.dtype !== 'BF16')
      throw new MotError(
        'ERR_FILE_FORMAT',
        `train.from: ${source} in ${this.path} is ${found.dtype}; F32 or BF16 is needed.`,
      );
    return { name, source, ...(BY_TOKEN.has(name) ? { rows } : {}) };
  }

  private sourceOf(name: string): string | undefined {
    const place = towerOf(name);
    if (!place) return name;
    const { tower, part } = place;
    const given = Object.hasOwn(this.from.towers, tower) ? this.from.towers[tower]! : tower;
    if (given === null) {
      this.drawn.add(tower);
      return undefined;
    }
    const has = this.towers.get(part) ?? new Set();
    const [only] = has;
    const taken = has.has(given) ? given : has.size === 1 ? only! : undefined;
    if (taken === undefined)
      throw new MotError(
        'ERR_CONFIG',
        `train.from: ${this.path} has no tower ${given} in ${part}, its towers are ${[...has].join(', ') || 'none'}; say with which one ${tower} begins, as in train.from.towers: {${tower}: ${only ?? 'text'}}, or null for new weights.`,
      );
    if (taken !== tower) this.taken.set(tower, taken);
    const words = name.split('.');
    words[part === 'final' ? 1 : 2] = taken;
    return words.join('.');
  }

  sentence({ rows, retokenized }: KeptIds, fresh: number): string {
    const ids = rows.reduce((sum, { count }) => sum + count, 0);
    const parts = [`begins with ${this.path}`, `${ids} token ids are its own`];
    if (retokenized.length > 0)
      parts.push(`the ids of ${retokenized.join(', ')} are drawn anew, for they come from another tokenizer here`);
    for (const [tower, taken] of this.taken) parts.push(`tower ${tower} is its ${taken}`);
    for (const tower of this.drawn) parts.push(`tower ${tower} is new`);
    if (fresh > 0) parts.push(`${fresh} tensors are drawn anew`);
    return parts.join('; ');
  }
}
