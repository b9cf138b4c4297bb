/**
 * The whole shape of the native addon. Only lib/native imports the addon; everything else sees these types.
 * Native calls that take long return promises and never hold the event loop; typed arrays are copied at the call.
 * Native errors are plain Errors with a `code` of MotErrorCode; lib/native/load.ts turns them into MotErrors.
 */
import type { Checkpointing } from '../config/checkpointing.js';

/** One part of the model: towers by name, and which of them serves each modality. */
export interface NativePart {
  names: string[];
  towerOfModality: number[];
}

/** Mixture of experts in one tower of the MLP; count 0: it has none. */
export interface NativeExperts {
  count: number;
  routing: 'expert_choice' | 'token_choice';
  capacityFactor: number;
  topK: number;
  balanceLoss: number;
}

/** Mirrors native/model/config.h. */
export interface NativeModelConfig {
  dModel: number;
  nLayers: number;
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  ffnDim: number;
  vocab: number;
  modalities: number;
  normPlacement: 'branch_output' | 'pre';
  qkNorm: boolean;
  normEps: number;
  ropeTheta: number;
  zLoss: number;
  selfAttn: NativePart;
  mlp: NativePart;
  final: NativePart;
  /** Of attention_norm and ffn_norm; absent: those of their branch. */
  norms?: NativePart;
  lossWeight: number[];
  /** Of every tower of mlp; absent: none has any. */
  experts?: NativeExperts[];
  /** Image patches by diffusion; absent: none. `modality` is an index. */
  diffusion?: {
    modality: number;
    patchDim: number;
    steps: number;
    weight: number;
    prediction: 'noise' | 'velocity';
  };
}

export interface NativeSessionOptions {
  /** "cpu" or "reference". */
  device: string;
  dtype: 'f32' | 'bf16';
  /** 0: as many as this process may use. */
  threads: number;
  /** Tokens of one micro-batch, prefill or decode call. */
  tokens: number;
  /** Slots of the KV cache; 0: none. */
  kvSlots: number;
  /** RoPE positions. */
  positions: number;
  /** Images of one call; models with diffusion only. */
  images: number;
  training: boolean;
  /** Whether there is an average of the weights; with training only. */
  ema: boolean;
  /** What backward computes again rather than keep. */
  checkpointing: Checkpointing;
  /** Decoding with expert choice: refused, or approximated by token choice. */
  approximateRouting: boolean;
}

/** A packed batch in sequence order; all arrays of one length, except where optional. */
export interface NativeBatch {
  token: Int32Array;
  modality: Int32Array;
  position: Int32Array;
  kvStart: Int32Array;
  kvEnd: Int32Array;
  target?: Int32Array;
  targetModality?: Int32Array;
  /** Slots of the KV cache that these tokens take; decode only. */
  slot?: Int32Array;
  /** Row of `latent` that each token embeds, -1: none. With it, latent, imageOfRow and timestep; diffusion only. */
  patchRow?: Int32Array;
  /** [R * P] */
  latent?: Float32Array;
  /** [R * P] Given: `latent` is clean and is mixed with it, and the loss is on it. */
  noise?: Float32Array;
  /** [R] */
  imageOfRow?: Int32Array;
  /** [images] */
  timestep?: Int32Array;
}

export interface NativeLosses {
  loss: number;
  lmLoss: number;
  zLoss: number;
  /** Load-balance loss of experts with token choice, 1 when even: mean over layers and towers; 0 without. */
  balanceLoss: number;
  /** [modalities] sums of cross-entropy. */
  ceSum: Float64Array;
  /** [modalities] */
  targetCount: Float64Array;
  /** Sum over images of the image's mean squared error of noise or velocity; 0 without diffusion. */
  diffusionSum: number;
  /** Images that the sum is over. */
  imageCount: number;
}

/** What is given of chosen positions: hidden states [count, D], logits [count, V], predicted noise of patches [count, P]. */
export type NativeOutput = 'hidden' | 'logits' | 'patches';

export interface NativeAdamW {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  clip: number;
  step: number;
  /** Decay of the average of the weights at this update; absent: it stays as it is. */
  emaDecay?: number | undefined;
  /** Learning rate of each tensor as a share of lr, in the order of tensors(); 0: frozen. Absent: 1 for all. */
  lrScales?: Float64Array | undefined;
}

/** What a step's loss and gradient norm may be at most, for the step to change anything; Infinity: no limit. */
export interface NativeStepLimits {
  maxLoss: number;
  maxGradNorm: number;
}

export interface NativeStepResult extends NativeLosses {
  gradNorm: number;
  /** False: loss or gradient norm was not finite, or over its limit, and nothing was changed. */
  applied: boolean;
  /** Native wall-clock time, ms. */
  elapsedMs: number;
}

export interface NativePlanEntry {
  name: string;
  group: string;
  dtype: string;
  shape: number[];
  bytes: number;
  offset: number;
}

/** Which flat array a tensor is read from or written to: a weight, its gradient, AdamW's moments, its average. */
export type TensorKind = 'weight' | 'gradient' | 'm' | 'v' | 'ema';

/** Which weights a call computes with: those that training changes, or their average. */
export type WeightKind = 'raw' | 'ema';

/** One call of an op, as a profile records it. */
export interface NativeOpEvent {
  /** Name in the op table: `grouped_gemm_forward`. */
  op: string;
  /** Microseconds of the clock of `process.hrtime`. */
  beginUs: number;
  /** Wall clock. */
  durationUs: number;
  /** Useful floating-point operations; a multiply-add is 2. */
  flops: number;
  /** Bytes of the arguments, read or written once. */
  bytes: number;
}

/** Raised by `abort()`; one per call. */
export interface NativeAbort {
  abort(): void;
}

/** One model on its own native thread. Calls run in the order they were made. */
export interface NativeSession {
  /** [name, shape] in checkpoint order. */
  tensors(): { name: string; shape: number[] }[];
  plan(): NativePlanEntry[];
  /** highWaterBytes: as of the last call that has ended. */
  memory(): { arenaBytes: number; highWaterBytes: number };
  init(seed: bigint): Promise<void>;
  zeroGradients(): Promise<void>;
  /** One training step: zero gradients, backward of every micro-batch, AdamW. The loss is over all targets. */
  step(
    microBatches: NativeBatch[],
    adamw: NativeAdamW,
    limits: NativeStepLimits,
    abort: NativeAbort | null,
  ): Promise<NativeStepResult>;
  /** totalTargets, totalImages 0: the batch's own. */
  backward(
    batch: NativeBatch,
    totalTargets: number,
    totalImages: number,
    abort: NativeAbort | null,
  ): Promise<NativeLosses>;
  adamw(options: NativeAdamW): Promise<{ gradNorm: number; applied: boolean }>;
  evaluate(batch: NativeBatch, weights: WeightKind, abort: NativeAbort | null): Promise<NativeLosses>;
  /** Log-probability of each target [T]; 0 where there is none. */
  logProbs(batch: NativeBatch, abort: NativeAbort | null): Promise<Float32Array<ArrayBuffer>>;
  /** `output` of the chosen positions. */
  forward(
    batch: NativeBatch,
    positions: Int32Array,
    output: NativeOutput,
    abort: NativeAbort | null,
  ): Promise<Float32Array<ArrayBuffer>>;
  /** Forward, then backward from a gradient with respect to `output` of the chosen positions. */
  backwardFrom(
    batch: NativeBatch,
    positions: Int32Array,
    output: NativeOutput,
    gradient: Float32Array,
    abort: NativeAbort | null,
  ): Promise<void>;
  /** Prefill or decode with the KV cache (batch.slot given); `output` of the chosen positions. */
  decode(
    batch: NativeBatch,
    positions: Int32Array,
    output: NativeOutput,
    weights: WeightKind,
    abort: NativeAbort | null,
  ): Promise<Float32Array<ArrayBuffer>>;
  readTensor(kind: TensorKind, name: string): Promise<Float32Array<ArrayBuffer>>;
  /** Rejects values that are not finite (ERR_NOT_FINITE). */
  writeTensor(kind: TensorKind, name: string, values: Float32Array): Promise<void>;
  /** Writes every tensor of the kinds to one safetensors file (weights, or their average, by name; others as `m.NAME`, ...); returns its checksum. */
  save(path: string, kinds: TensorKind[], metadata: Record<string, string>): Promise<string>;
  /** Copies every tensor of the kinds, so that they can be written while the session goes on. */
  snapshot(kinds: TensorKind[]): Promise<NativeSnapshot>;
  /** Reads them back; every tensor must be there with its shape, and finite. */
  load(path: string, kinds: TensorKind[]): Promise<void>;
  /** Records every op from now on; a running profile begins anew. */
  startProfile(): Promise<void>;
  /** Ends the profile and gives its ops in the order in which they ran. */
  takeProfile(): Promise<NativeOpEvent[]>;
  /** Idempotent. Running calls are aborted, waiting ones rejected with ERR_DISPOSED; resolves when memory is released. */
  dispose(): Promise<void>;
}

/** Tensors as they were when the snapshot was taken. */
export interface NativeSnapshot {
  /** As NativeSession.save, on a thread that no session needs; kinds that were copied only. */
  save(path: string, kinds: TensorKind[], metadata: Record<string, string>): Promise<string>;
  /** Frees the memory, once writes that go on are done. Idempotent. */
  dispose(): void;
}

export interface NativeTensorInfo {
  name: string;
  dtype: string;
  shape: number[];
}

/** An open safetensors file (memory-mapped). */
export interface NativeSafetensors {
  tensors(): NativeTensorInfo[];
  metadata(): Record<string, string>;
  /** Copies elements [begin, end) of a tensor; raw bytes in a fresh ArrayBuffer. */
  read(name: string, begin: number, end: number): ArrayBuffer;
  close(): void;
}

/** One op case as test, gradient check and benchmark see it. */
export interface NativeCaseInfo {
  op: string;
  name: string;
  /** Of the forward call. */
  flops: number;
  bytes: number;
  /** 0 where the op has no backward. */
  backwardFlops: number;
  backwardBytes: number;
  /** Sizes by name: rows, slots, documents, towers, in_features, out_features, d_model, heads, kv_heads, head_dim, vocab, elements. */
  shape: Record<string, number>;
  /** Rows of each group, of a matrix product made for timing. */
  groups: number[];
}

/** Times of one call of an op in a case. */
export interface NativeCallTiming {
  /** The call without the op's name: `forward`, `backward`, `d_x`, `d_w`. */
  call: string;
  /** Useful floating-point operations; a multiply-add is 2. */
  flops: number;
  /** Bytes of the arguments, read or written once. */
  bytes: number;
  /** Milliseconds of each round. */
  ms: Float64Array;
}

export interface NativeCaseReport {
  /** Largest error of any output against the reference backend in f64, divided by its tolerance; <= 1 passes. */
  worst: number;
  /** Which output and element that was, and both values; empty when it passes. */
  message: string;
}

export interface NativeAddon {
  /** Version of this contract; load.ts refuses another. */
  version: number;
  /** Instruction set in use, or why there is none. */
  cpu(): { variant: string; available: string[]; threads: number; error?: string };
  createAbort(): NativeAbort;
  createSession(config: NativeModelConfig, options: NativeSessionOptions): Promise<NativeSession>;
  /** Names and shapes of a config's tensors without creating it. */
  describe(
    config: NativeModelConfig,
    options: NativeSessionOptions,
  ): { tensors: { name: string; shape: number[] }[]; plan: NativePlanEntry[]; arenaBytes: number };
  openSafetensors(path: string): NativeSafetensors;
  writeSafetensors(
    path: string,
    tensors: { name: string; dtype: string; shape: number[]; data: ArrayBufferView }[],
    metadata: Record<string, string>,
  ): Promise<string>;
  cases(): NativeCaseInfo[];
  /** Runs a case forward and backward on a backend against the reference in f64. */
  checkCase(name: string, device: string, dtype: 'f32' | 'bf16', threads: number): Promise<NativeCaseReport>;
  /** Finite differences against the reference backward in f64. */
  checkGradient(name: string): Promise<NativeCaseReport>;
  /** Bits of every output with 1 and with `threads` threads; worst is 0 when all are equal. */
  checkThreads(name: string, device: string, dtype: 'f32' | 'bf16', threads: number): Promise<NativeCaseReport>;
  /** Times cases in turn, `repeats` rounds after one to warm up; gives the calls of each case. */
  timeCases(
    names: string[],
    device: string,
    dtype: 'f32' | 'bf16',
    threads: number,
    repeats: number,
  ): Promise<NativeCallTiming[][]>;
  /** The processor's limits; 0 threads: all that this process may use. */
  measureLimits(
    threads: number,
  ): Promise<{ f32Gflops: number; bf16Gflops: number; readGbps: number; copyGbps: number }>;
}
