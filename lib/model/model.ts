import {
  nativeModelConfig,
  parseModelConfig,
  type ModelConfig,
  type ModelConfigInput,
} from '../config/model_config.js';
import { MotError } from '../errors.js';
import { loadAddon } from '../native/load.js';
import type {
  NativeLosses,
  NativeOpEvent,
  NativeOutput,
  NativePlanEntry,
  NativeSession,
  NativeSnapshot,
  NativeStepResult,
  TensorKind,
  WeightKind,
} from '../native/types.js';
import type { Batch } from './batch.js';
import {
  parseAdamW,
  parseModelOptions,
  withSignal,
  type AdamWOptions,
  type CallOptions,
  type ModelOptions,
  type StepOptions,
} from './options.js';

export type { ModelConfig, ModelConfigInput } from '../config/model_config.js';
export type { AdamWOptions, CallOptions, ModelOptions, StepOptions } from './options.js';
export type { TensorKind, WeightKind } from '../native/types.js';

/** Losses of a batch, in nats. */
export type Losses = NativeLosses;
/** What one training step reports. */
export type StepResult = NativeStepResult;
/** One call of an op in a profile: name, begin and duration in microseconds, useful FLOPs, bytes of its arguments. */
export type OpEvent = NativeOpEvent;
/** One tensor of the memory plan. */
export type PlanEntry = NativePlanEntry;

/** A tensor's name and shape, `[out, in]` for matrices. */
export interface TensorShape {
  name: string;
  shape: number[];
}

/**
 * What `forward`, `backwardFrom` and `decode` speak of, at chosen positions: final hidden states [positions, d_model],
 * logits [positions, vocab], or the noise predicted for image patches [positions, patch_dim].
 */
export type Output = NativeOutput;

/** A batch for `decode`: intervals count slots of the KV cache, and each token takes one. */
export type DecodeBatch = Omit<Batch, 'target' | 'targetModality'> & { slot: Int32Array };

/**
 * A model with its memory, on its own native thread. Calls run one after the other in the order in which they were made,
 * and never hold the event loop; arrays are copied at the call, so they may be used again at once.
 *
 * Every call rejects with a MotError: ERR_DISPOSED after `dispose`, ERR_ABORTED when its `signal` fires, ERR_BATCH and
 * ERR_LIMIT for a batch that is not valid or too large, ERR_ARGUMENT for other arguments.
 *
 * @example
 * await using model = await Model.create(
 *   { vocab: 512, d_model: 64, n_layers: 2, n_heads: 4, modalities: ['text', 'image'] },
 *   { tokens: 1024 },
 * );
 * const { loss } = await model.step([batch], { lr: 1e-3, step: 1 });
 */
export class Model implements AsyncDisposable {
  /** The config with every value filled in. */
  readonly config: ModelConfig;
  /** What the memory was planned for. */
  readonly limits: { readonly tokens: number; readonly kv_slots: number; readonly positions: number };
  readonly #session: NativeSession;

  private constructor(config: ModelConfig, limits: Model['limits'], session: NativeSession) {
    this.config = config;
    this.limits = limits;
    this.#session = session;
  }

  /**
   * Makes a model: plans and reserves all its memory, and draws its initial weights.
   *
   * @param options.device `cpu` (default) or `reference`.
   * @param options.dtype Number format of matrix products, `f32` (default) or `bf16`.
   * @param options.threads Default 0: as many as this process may use.
   * @param options.tokens Most tokens of a micro-batch, prefill or decode call; default 2048.
   * @param options.kv_slots Slots of the KV cache; default 0, no `decode`.
   * @param options.positions RoPE positions; default the larger of tokens and kv_slots.
   * @param options.images Most images of a call, where the config has `diffusion`; default tokens.
   * @param options.training Whether there are gradients and optimiser state; default true.
   * @param options.ema Whether there is an exponential moving average of the weights, equal to the initial ones until
   *   updates with `emaDecay` add to it; default false.
   * @param options.checkpointing What training computes again in backward rather than keep: `none` (default), `attention`
   *   or `block`.
   * @param options.seed Of the initial weights, default 0; null leaves them zero.
   * @throws MotError ERR_CONFIG, ERR_UNSUPPORTED, ERR_ARGUMENT, ERR_MEMORY, ERR_ADDON.
   */
  static async create(config: ModelConfigInput, options: ModelOptions = {}): Promise<Model> {
    const resolved = parseModelConfig(config);
    const { seed, kv_slots, approximate_routing: approximateRouting, ...rest } = parseModelOptions(options);
    const session = await loadAddon().createSession(nativeModelConfig(resolved), {
      ...rest,
      kvSlots: kv_slots,
      approximateRouting,
    });
    try {
      if (seed !== null) await session.init(BigInt(seed));
    } catch (error) {
      await session.dispose();
      throw error;
    }
    return new Model(resolved, { tokens: rest.tokens, kv_slots, positions: rest.positions }, session);
  }

  /**
   * Tensors and memory plan of a model, without making it: for sizes that this machine need not hold.
   *
   * @throws MotError ERR_CONFIG, ERR_UNSUPPORTED, ERR_ARGUMENT, ERR_ADDON.
   */
  static describe(
    config: ModelConfigInput,
    options: ModelOptions = {},
  ): { config: ModelConfig; tensors: TensorShape[]; parameters: number; plan: PlanEntry[]; arenaBytes: number } {
    const resolved = parseModelConfig(config);
    const { seed: _, kv_slots, approximate_routing: approximateRouting, ...rest } = parseModelOptions(options);
    const described = loadAddon().describe(nativeModelConfig(resolved), {
      ...rest,
      kvSlots: kv_slots,
      approximateRouting,
    });
    return { config: resolved, parameters: countParameters(described.tensors), ...described };
  }

  /** Names and shapes of all weights, in checkpoint order. */
  tensors(): TensorShape[] {
    return this.#session.tensors();
  }

  /** Number of weights. */
  get parameters(): number {
    return countParameters(this.tensors());
  }

  /** Every tensor of the one block of memory: name, group, dtype, shape, bytes, offset. */
  plan(): PlanEntry[] {
    return this.#session.plan();
  }

  /** Bytes planned, and the furthest byte that calls have used so far (the same after a training step). */
  memory(): { arenaBytes: number; highWaterBytes: number } {
    return this.#session.memory();
  }

  /** Draws the weights anew and zeroes optimiser state. The same seed gives the same bits. */
  async init(seed: number): Promise<void> {
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new MotError('ERR_ARGUMENT', `seed must be a whole number of at least 0, got ${seed}.`);
    return this.#session.init(BigInt(seed));
  }

  /** Zeroes the gradients that `backward` adds to. */
  async zeroGradients(): Promise<void> {
    return this.#session.zeroGradients();
  }

  /**
   * One training step: zeroes the gradients, adds those of every micro-batch, clips them and applies AdamW. The loss is
   * over the targets of all micro-batches together.
   *
   * @param options.maxLoss A loss above this changes nothing. Default: Infinity, any finite one is applied.
   * @param options.maxGradNorm The same for the gradient's global norm before clipping.
   * @returns `applied` is false when loss or gradient norm was not finite or above its limit: then nothing was changed.
   * @throws MotError ERR_ABORTED: weights and optimiser are as they were.
   * @example
   * const { loss, gradNorm } = await model.step([batch], { lr: 1e-3, step: 1 });
   */
  async step(microBatches: readonly Batch[], adamw: AdamWOptions, options: StepOptions = {}): Promise<StepResult> {
    const parsed = parseAdamW(adamw);
    const { maxLoss = Infinity, maxGradNorm = Infinity } = options;
    return withSignal(options, (abort) =>
      this.#session.step([...microBatches], parsed, { maxLoss, maxGradNorm }, abort),
    );
  }

  /**
   * Forward and backward; gradients are added to those that are there (`zeroGradients` first).
   *
   * @param options.totalTargets Targets of the whole global batch, which the loss is divided by. Default: the batch's own.
   * @param options.totalImages Images with noise of the whole global batch, likewise for the diffusion loss.
   * @throws MotError ERR_ABORTED: the gradients gathered so far are dropped.
   */
  async backward(
    batch: Batch,
    options: CallOptions & { totalTargets?: number; totalImages?: number } = {},
  ): Promise<Losses> {
    const { totalTargets = 0, totalImages = 0 } = options;
    return withSignal(options, (abort) => this.#session.backward(batch, totalTargets, totalImages, abort));
  }

  /** Clips the gradients and applies AdamW; they stay as they are. `applied` is false when they were not finite. */
  async adamw(options: AdamWOptions): Promise<{ gradNorm: number; applied: boolean }> {
    return this.#session.adamw(parseAdamW(options));
  }

  /**
   * Losses of a batch without gradients.
   *
   * @param options.weights `raw` (default), or `ema`: with the average of the weights, of a model created with `ema`.
   */
  async evaluate(batch: Batch, options: CallOptions & { weights?: WeightKind } = {}): Promise<Losses> {
    const { weights = 'raw' } = options;
    return withSignal(options, (abort) => this.#session.evaluate(batch, weights, abort));
  }

  /** Log-probability, in nats, of each place's target: [tokens], 0 where there is none. */
  async logProbs(batch: Batch, options: CallOptions = {}): Promise<Float32Array<ArrayBuffer>> {
    return withSignal(options, (abort) => this.#session.logProbs(batch, abort));
  }

  /**
   * Final hidden states, logits or predicted noise of the chosen positions of a batch, row-major: see `Output`.
   *
   * @example
   * const logits = await model.forward(batch, Int32Array.of(batch.token.length - 1), 'logits');
   */
  async forward(
    batch: Batch,
    positions: Int32Array,
    output: Output,
    options: CallOptions = {},
  ): Promise<Float32Array<ArrayBuffer>> {
    return withSignal(options, (abort) => this.#session.forward(batch, positions, output, abort));
  }

  /**
   * For losses of your own: forward, then backward from the gradient of your loss with respect to `output` of the chosen
   * positions (distinct). Gradients are added, of your loss alone (no z-loss, no load balance); finish with `adamw`.
   *
   * @param gradient Of the shape of the output, row-major.
   */
  async backwardFrom(
    batch: Batch,
    positions: Int32Array,
    output: Output,
    gradient: Float32Array,
    options: CallOptions = {},
  ): Promise<void> {
    return withSignal(options, (abort) => this.#session.backwardFrom(batch, positions, output, gradient, abort));
  }

  /**
   * Prefill or decode with the KV cache: writes keys and values of these tokens into their slots and gives the `output`
   * of the chosen positions of the batch. Needs `kv_slots`. A call may write slots again that an earlier one wrote: so a
   * diffusion loop passes an image's patches at one timestep after the other, and what lies before them stays.
   *
   * @param options.output Default `logits`.
   * @param options.weights `raw` (default), or `ema`: with the average of the weights, of a model created with `ema`.
   */
  async decode(
    batch: DecodeBatch,
    positions: Int32Array,
    options: CallOptions & { output?: Output; weights?: WeightKind } = {},
  ): Promise<Float32Array<ArrayBuffer>> {
    const { output = 'logits', weights = 'raw' } = options;
    return withSignal(options, (abort) => this.#session.decode(batch, positions, output, weights, abort));
  }

  /** One tensor, copied, row-major: a weight, its gradient, AdamW's moments, or its average. MotError ERR_TENSOR_NAME. */
  async readTensor(kind: TensorKind, name: string): Promise<Float32Array<ArrayBuffer>> {
    return this.#session.readTensor(kind, name);
  }

  /** Replaces one tensor. MotError ERR_TENSOR_NAME; ERR_NOT_FINITE for NaN or infinity. */
  async writeTensor(kind: TensorKind, name: string, values: Float32Array): Promise<void> {
    return this.#session.writeTensor(kind, name, values);
  }

  /**
   * Writes tensors to a safetensors file, whole or not at all: weights, or their average (`ema`), by name, others as
   * `gradient.NAME`, `m.NAME`, `v.NAME`. So a file of averaged weights can be loaded as weights. The metadata holds the model's config as JSON under `config`.
   *
   * @param kinds Default: the weights.
   * @param metadata Further texts by key.
   * @returns CRC-32 of the file, 8 hexadecimal digits.
   * @throws MotError ERR_FILE_WRITE.
   */
  async save(
    path: string,
    kinds: readonly TensorKind[] = ['weight'],
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    return this.#session.save(path, [...kinds], { config: JSON.stringify(this.config), ...metadata });
  }

  /**
   * Copies tensors as they are now, to write them while training goes on: takes a copy's memory and time.
   *
   * @param kinds Default: the weights.
   * @throws MotError ERR_MEMORY.
   * @example
   * using snapshot = await model.snapshot(['weight', 'm', 'v']);
   * const written = snapshot.save('optimizer.safetensors', ['m', 'v']);
   * await model.step([batch], { lr: 1e-3, step: 2 }); // not in the file
   * await written;
   */
  async snapshot(kinds: readonly TensorKind[] = ['weight']): Promise<Snapshot> {
    return new Snapshot(this.config, await this.#session.snapshot([...kinds]));
  }

  /**
   * Reads tensors that `save` wrote. All are checked before any is replaced: there, of this model's shape, finite.
   *
   * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, ERR_NOT_FINITE.
   */
  async load(path: string, kinds: readonly TensorKind[] = ['weight']): Promise<void> {
    return this.#session.load(path, [...kinds]);
  }

  /** Records every op that calls run from now on, until `takeProfile`. A running profile begins anew. */
  async startProfile(): Promise<void> {
    return this.#session.startProfile();
  }

  /** Ends the profile: its ops in the order in which they ran; empty where none was started. */
  async takeProfile(): Promise<OpEvent[]> {
    return this.#session.takeProfile();
  }

  /** Ends the running call, rejects waiting ones (ERR_DISPOSED), and resolves when the memory is free. Idempotent. */
  async dispose(): Promise<void> {
    return this.#session.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** Tensors of a model as they were at one moment: see `Model.snapshot`. */
export class Snapshot implements Disposable {
  readonly #config: ModelConfig;
  readonly #snapshot: NativeSnapshot;

  /** @internal */
  constructor(config: ModelConfig, snapshot: NativeSnapshot) {
    this.#config = config;
    this.#snapshot = snapshot;
  }

  /**
   * Writes the same file as `Model.save` would have written, on a thread of its own.
   *
   * @throws MotError ERR_FILE_WRITE; ERR_ARGUMENT for kinds that were not copied; ERR_DISPOSED.
   */
  async save(
    path: string,
    kinds: readonly TensorKind[] = ['weight'],
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    return this.#snapshot.save(path, [...kinds], { config: JSON.stringify(this.#config), ...metadata });
  }

  /** Frees its memory; a write that goes on still ends. Idempotent. */
  dispose(): void {
    this.#snapshot.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function countParameters(tensors: readonly TensorShape[]): number {
  return tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
}
