import type { SourceSummary, SplitName } from '../dataset.js';
import { MotError } from '../../errors.js';
import type { PrepareProgress } from '../prepare_progress.js';
import { ShardWriter } from '../shard.js';
import type { WorkerPool } from '../../threads/worker_pool.js';
import type { OwnOptions } from './options.js';
import { readRecords, splitRecords } from './records.js';
import { SkippedFile, type SkippedLine } from './skipped.js';
import { writeState, type PrepareState } from './state.js';
import { planSource, silenceOf, type OpenSource, type Task } from './tasks.js';
import type { EncodeContext, EncodedTask, OwnTasks } from './worker.js';

/** Splits by the index that workers give. */
const SPLITS: readonly SplitName[] = ['train', 'validation', 'heldout'];
/** Documents after which shards end, so that a stopped run of short documents has not lost much. */
const SHARD_DOCUMENTS = 1 << 16;
/** Tasks under way for each worker: one in work, the others waiting. */
const TASKS_AHEAD = 3;

/**
 * Encodes what is left of the sources and writes it into shards, in the order of the tasks. Shards of all splits end
 * together; then the state is written, and a later run goes on from there.
 */
export async function encodeSources(
  folder: string,
  state: PrepareState,
  sources: readonly OpenSource[],
  options: OwnOptions,
  pool: WorkerPool<OwnTasks>,
  progress: PrepareProgress,
): Promise<void> {
  const { vocabulary, tokenizers } = state;
  const total = sources.reduce((sum, { files }) => sum + files.reduce((bytes, file) => bytes + file.bytes, 0), 0);
  const stage = progress.stage('documents', total);
  const merger = new Merger(folder, state, options);
  const context = { folder, tokenizers, vocabulary, options };
  const window: { task: Task; result: Promise<EncodedTask> }[] = [];
  const settle = async (): Promise<void> => {
    const { task, result } = window.shift()!;
    const encoded = await result;
    await merger.add(task, encoded);
    stage.advance(task.bytes, encoded.items + encoded.skips.length);
  };
  try {
    let index = 0;
    for (const source of sources)
      for await (const task of planSource(source, options.limits)) {
        if (index++ < state.tasks) {
          stage.advance(task.bytes, 0);
          continue;
        }
        const result = encodeGuarded(pool, task, context, options);
        result.catch(() => {}); // Told when its turn comes.
        window.push({ task, result });
        if (window.length >= TASKS_AHEAD * pool.threads) await settle();
      }
    while (window.length > 0) await settle();
    await merger.flush();
  } finally {
    merger.close();
  }
  stage.end();
}

/** Encodes a task; one on which a worker hangs or dies is skipped as a whole. */
async function encodeGuarded(
  pool: WorkerPool<OwnTasks>,
  task: Task,
  context: EncodeContext,
  { limits }: OwnOptions,
): Promise<EncodedTask> {
  try {
    return await pool.run('encode', { task, context }, { silence: silenceOf(task) });
  } catch (error) {
    if (!(error instanceof MotError && error.code === 'ERR_LIMIT')) throw error;
    const lines = linesOf(task, limits.file_mb * 1e6);
    const place = lines !== undefined ? { line: 0 } : task.kind === 'rows' ? { row: task.begin } : {};
    return {
      token: new Int32Array(),
      modality: new Uint8Array(),
      lengths: new Int32Array(),
      splits: new Uint8Array(),
      copies: new Uint8Array(),
      items: 0,
      lines: lines ?? 0,
      skips: [{ place, reason: `this and what is read with it cannot be decoded: ${error.message}` }],
    };
  }
}

/** Lines of a task of records. */
function linesOf(task: Task, limit: number): number | undefined {
  if (task.kind === 'records') return readRecords(task.file, task.begin, task.end, task.by, limit).lines;
  if (task.kind === 'piece') return splitRecords(Buffer.from(task.content), task.by, limit).lines + task.dropped;
  return undefined;
}

/** Takes encoded tasks in their order into shards and counts. */
class Merger {
  readonly #folder: string;
  readonly #state: PrepareState;
  readonly #options: OwnOptions;
  readonly #writers: ShardWriter[];
  readonly #skipped: SkippedFile;
  #pendingTokens = 0;
  #pendingDocuments = 0;
  /** The state after the last task; it becomes the saved one when shards end. */
  #tasks: number;
  #file: string;
  #lines: number;
  readonly #sources: SourceSummary[];

  constructor(folder: string, state: PrepareState, options: OwnOptions) {
    this.#folder = folder;
    this.#state = state;
    this.#options = options;
    this.#writers = SPLITS.map(
      (name) =>
        new ShardWriter(folder, name, state.vocabulary, options.shard_tokens, {
          tokenizers: state.tokenizers,
          split: structuredClone(state.splits[name]),
        }),
    );
    this.#skipped = new SkippedFile(folder, state.skippedBytes);
    this.#tasks = state.tasks;
    this.#file = state.file;
    this.#lines = state.lines;
    this.#sources = structuredClone(state.sources);
  }

  async add(task: Task, encoded: EncodedTask): Promise<void> {
    const { vocabulary } = this.#state;
    const summary = this.#sources[task.source]!;
    if (task.file !== this.#file) this.#lines = 0;
    this.#file = task.file;
    this.#skipped.add(
      encoded.skips.map(({ place, reason }): SkippedLine => {
        const { file = task.file, line, ...rest } = place;
        return {
          source: task.source,
          file,
          ...(line === undefined ? {} : { line: this.#lines + line + 1 }),
          ...rest,
          reason,
        };
      }),
    );
    this.#lines += encoded.lines;
    summary.items += encoded.items;
    summary.skipped += encoded.skips.length;
    let at = 0;
    for (const [i, length] of encoded.lengths.entries()) {
      const token = encoded.token.slice(at, at + length);
      const modality = encoded.modality.slice(at, at + length);
      at += length;
      const copies = encoded.copies[i]!;
      for (let copy = 0; copy < copies; copy++) await this.#writers[encoded.splits[i]!]!.add({ token, modality });
      summary.documents += copies;
      for (const m of modality) summary.tokens[vocabulary.modalities[m]!]! += copies;
      this.#pendingTokens += copies * length;
      this.#pendingDocuments += copies;
    }
    this.#tasks++;
    if (this.#pendingTokens >= this.#options.shard_tokens || this.#pendingDocuments >= SHARD_DOCUMENTS)
      await this.flush();
  }

  /** Ends the shards and saves the state. */
  async flush(): Promise<void> {
    const state = this.#state;
    for (const [i, name] of SPLITS.entries()) state.splits[name] = structuredClone(await this.#writers[i]!.finish());
    state.longest = Math.max(state.longest, ...this.#writers.map(({ longest }) => longest));
    state.tasks = this.#tasks;
    state.file = this.#file;
    state.lines = this.#lines;
    state.sources = structuredClone(this.#sources);
    state.skippedBytes = this.#skipped.bytes;
    writeState(this.#folder, state);
    this.#pendingTokens = 0;
    this.#pendingDocuments = 0;
  }

  close(): void {
    this.#skipped.close();
  }
}
