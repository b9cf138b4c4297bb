/** A packed batch in sequence order, as the API takes it. Every array has one entry a token. */
export interface Batch {
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

/** One document: tokens and the modality of each, in reading order. */
export interface Document {
  token: ArrayLike<number>;
  modality: ArrayLike<number>;
}
