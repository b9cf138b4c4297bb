import { join } from 'node:path';
import type { CheckpointCopy } from '../config/train_config.js';
import { MotError } from '../errors.js';
import { machineMemory, type MachineMemory } from '../machine.js';
import type { Model, Snapshot, TensorKind } from '../model/model.js';
import { bytes } from '../units.js';
import { EMA_FILE, MODEL_FILE, OPTIMIZER_FILE, writeCheckpoint, type Keep, type TrainerState } from './checkpoint.js';

/** The tensors of a checkpoint, by file. */
const FILES: readonly (readonly [file: string, kinds: readonly TensorKind[]])[] = [
  [MODEL_FILE, ['weight']],
  [OPTIMIZER_FILE, ['m', 'v']],
];
const EMA_FILES = [...FILES, [EMA_FILE, ['ema']]] as const satisfies typeof FILES;

/** Size of a checkpoint, and of the copy that it is written from, of a model that averages its weights or does not. */
export function checkpointBytes(parameters: number, ema = false): number {
  return 4 * parameters * kindsOf(ema ? EMA_FILES : FILES).length;
}

function kindsOf(files: typeof FILES): TensorKind[] {
  return files.flatMap(([, kinds]) => kinds);
}

/** Most of the memory that is free which a copy may take with `auto`. */
const SHARE_OF_FREE_MEMORY = 0.5;

/** What a CheckpointWriter works with. */
export interface CheckpointWriterOptions {
  model: Pick<Model, 'parameters' | 'save' | 'snapshot'>;
  /** Folder of the run. */
  run: string;
  keep: Keep;
  /** As `train.checkpoint_copy`. */
  copy: CheckpointCopy;
  /** Whether the model averages its weights, which then have a file too. Default false. */
  ema?: boolean;
  /** Further metadata of the files of tensors. Default: none. */
  metadata?: Readonly<Record<string, string>>;
  /** Called before each checkpoint: what belongs to it must be on the disk first. */
  before: () => void;
  /** Takes a sentence for the user. */
  say: (sentence: string) => void;
  /** Default: this machine's. */
  memory?: () => MachineMemory;
}

/**
 * Writes the checkpoints of a run, one at a time. Where memory allows, tensors are copied, and the copy is written while
 * training goes on; otherwise training waits while they are written from where they are. The files are the same.
 */
export class CheckpointWriter {
  readonly #options: CheckpointWriterOptions;
  readonly #files: typeof FILES;
  /** The write that goes on; never rejects. */
  #running: Promise<void> | undefined;
  #failure: { error: unknown } | undefined;
  #saidWhy = false;

  constructor(options: CheckpointWriterOptions) {
    this.#options = options;
    this.#files = options.ema ? EMA_FILES : FILES;
  }

  /**
   * Saves the model and a state, once the write before is done. Resolves when training may go on.
   *
   * @param options.last No step follows, so that a copy would gain nothing: resolves when the checkpoint is whole.
   * @param options.done Called with the path of the checkpoint when it is whole.
   * @throws MotError ERR_FILE_WRITE, of this checkpoint or the one before.
   */
  async save(
    state: TrainerState,
    { last = false, done }: { last?: boolean; done?: (path: string) => void } = {},
  ): Promise<void> {
    await this.settle();
    const { model, run, keep, before, metadata } = this.#options;
    before();
    // The trainer changes its state in place.
    const now = structuredClone(state);
    const copy = last ? undefined : await this.#copy();
    const write = async (): Promise<void> => {
      try {
        const path = await writeCheckpoint(run, now, keep, async (folder, written) => {
          for (const [file, kinds] of this.#files) {
            await (copy ?? model).save(join(folder, file), kinds, metadata);
            written(file);
          }
        });
        done?.(path);
      } finally {
        copy?.dispose();
      }
    };
    if (!copy) return write();
    this.#running = write().catch((error: unknown) => void (this.#failure = { error }));
  }

  /** Throws what the write that went on has failed with, once. */
  check(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure.error;
  }

  /** Waits for the write that goes on, and throws as `check`. */
  async settle(): Promise<void> {
    await this.#running;
    this.check();
  }

  /** A copy to write from; undefined where there is to be none. */
  async #copy(): Promise<Snapshot | undefined> {
    const { model, copy, ema, memory = machineMemory } = this.#options;
    if (copy === 'never') return undefined;
    const size = checkpointBytes(model.parameters, ema);
    const { available } = memory();
    if (copy === 'auto' && size > SHARE_OF_FREE_MEMORY * available) return this.#without(size, available);
    try {
      return await model.snapshot(kindsOf(this.#files));
    } catch (error) {
      if (copy === 'auto' && error instanceof MotError && error.code === 'ERR_MEMORY')
        return this.#without(size, available);
      throw error;
    }
  }

  #without(size: number, available: number): undefined {
    if (this.#saidWhy) return;
    this.#saidWhy = true;
    this.#options.say(
      `a copy for checkpoints takes ${bytes(size)}, and ${bytes(available)} of memory are free: training waits while they are written (train.checkpoint_copy).`,
    );
  }
}
