/** Continuous image patches of a batch: R rows of latents, each P numbers wide (the config's `diffusion.patch_dim`). */
export interface Patches {
  /**
   * [tokens] Row of `latent` that takes the place of the token's embedding, -1: none. A row serves one token at most, and
   * the token is of the config's `diffusion.modality`.
   */
  patchRow: Int32Array;
  /** [R * P] Patches: clean where `noise` is given, else as noisy as `timestep` says. */
  latent: Float32Array;
  /**
   * [R * P] Given: the model sees sqrt(a) latent + sqrt(1 - a) noise, a the signal level of the image's timestep, and the
   * diffusion loss is on the noise that it predicts. Absent: it sees `latent` as it is, and there is no diffusion loss.
   */
  noise?: Float32Array;
  /** [R] Image of each row. */
  imageOfRow: Int32Array;
  /** [images] Timestep of each image's noise, 0 <= timestep < `diffusion.steps`. */
  timestep: Int32Array;
}

/**
 * A packed batch in sequence order, as the API takes it. Every array has one entry a token, but for those of `Patches`,
 * which come together or not at all; `noise` may be left out.
 */
export interface Batch extends Partial<Patches> {
  /** Token ids, 0 <= token < vocab. */
  token: Int32Array;
  /** Index into the config's modalities. */
  modality: Int32Array;
  /** RoPE position; restarts at each document. */
  position: Int32Array;
  /** Token i sees the keys kvStart[i] <= j < kvEnd[i]. Both non-decreasing; every token sees itself. */
  kvStart: Int32Array;
  kvEnd: Int32Array;
  /** Token to predict at this place, -1 for none; where given, kvEnd[i] <= i + 1. */
  target?: Int32Array;
  /** Modality of the token to predict; its loss counts there. */
  targetModality?: Int32Array;
}

/**
 * One document: tokens and the modality of each, in reading order. With a continuous modality also its latents [R, P]; an
 * image is a run of places with patches.
 */
export interface Document {
  token: ArrayLike<number>;
  modality: ArrayLike<number>;
  /** Clean patches [R * P], row-major. */
  latent?: Float32Array;
  /** Row of `latent` at each place, -1 for a token; comes with `latent`. */
  patchRow?: Int32Array;
  /** Noise [R * P] to mix in, which the model learns to predict; absent: the latents are used as they are. */
  noise?: Float32Array;
  /** Timestep of each image, 0 <= t < steps. Default: 0. */
  timestep?: Int32Array;
}

/**
 * Whether a document's token `i` is predicted from the one before it: not the first, and neither a patch nor after one.
 * So nothing is predicted where the input is the token that begins an image.
 */
export function isPredicted({ patchRow }: Document, i: number): boolean {
  return i > 0 && (patchRow === undefined || (patchRow[i]! < 0 && patchRow[i - 1]! < 0));
}
