/** An RGB picture, 3 bytes a pixel, rows from the top. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8Array;
}

/** Mono sound, samples in [-1, 1]. */
export interface Sound {
  sampleRate: number;
  samples: Float32Array;
}

/** What may stand at a place of a span. */
export interface SpanRule {
  /** Local ids allowed here: [begin, end). Empty when begin === end. */
  begin: number;
  end: number;
  /** Whether the span may end here (its end token is allowed). */
  mayEnd: boolean;
}

/**
 * Turns one modality's raw values into local ids 0 .. size-1 and back. Adding a modality means writing one of these
 * and giving it a range in the vocabulary; see lib/modalities/README.md.
 */
export interface Tokenizer<Raw> {
  /** Name of the modality, `[a-z][a-z0-9_]*`. */
  readonly modality: string;
  /** Number of ids. */
  readonly size: number;
  encode(raw: Raw): Int32Array;
  /** Never throws on ids in range: an incomplete span decodes to what is there. */
  decode(ids: ArrayLike<number>): Raw;
  /** What may follow after `length` ids of a span; generation uses it. */
  rule(length: number): SpanRule;
}
