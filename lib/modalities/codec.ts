import type { TensorSet } from './tensors.js';

/**
 * Turns a continuous modality's raw values into latents and back: what a Tokenizer is to a discrete modality. The
 * built-in one cuts pictures into pixels (PixelCodec); an autoencoder, such as an ONNX encoder and decoder, fits the same
 * interface. Latents should have mean 0 and standard deviation 1: they are mixed with normal noise.
 */
export interface LatentCodec<Raw> {
  /** Name of the modality, `[a-z][a-z0-9_]*`. */
  readonly modality: string;
  /** Patches of a whole raw value: R. */
  readonly patches: number;
  /** Numbers in a patch: P. */
  readonly patchDim: number;
  /** Values outside [low, high] decode like the nearest bound; sampling keeps its estimates between them. */
  readonly range?: readonly [low: number, high: number];
  /** Latents [R, P], row-major. */
  encode(raw: Raw): Float32Array;
  /** @param latent [R, P], any finite numbers. */
  decode(latent: ArrayLike<number>): Raw;
  /** What its file in a data set holds. */
  toTensors(): TensorSet;
}

/** Codecs by modality. */
export type Codecs = Record<string, LatentCodec<unknown>>;
