import type { TrainingSample } from '../train/samples.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';

/** One curve: step and loss of the same length. */
export interface Curve {
  step: number[];
  value: number[];
}

/** Losses of one modality over a run, and the lines to beat. */
export interface ModalityCurves {
  modality: string;
  /** Of the losses. */
  unit: string;
  train: Curve;
  validation: Curve;
  heldout: Curve;
  /** Cross-entropy on the validation tokens of n-gram models fitted on the training tokens. */
  unigram?: number;
  bigram?: number;
  /** The same on the held-out tokens. */
  heldoutUnigram?: number;
  heldoutBigram?: number;
}

/** One concept: what it is, and what the model makes of it. */
export interface ReportSample {
  caption: string;
  /** Whether training saw the concept. */
  known: boolean;
  truePicture: Picture;
  /** The true picture through the tokenizer and back: the best that the model's tokens can show. */
  tokenPicture: Picture;
  /** Generated from the caption. */
  picture: Picture;
  /** Generated from the true picture. */
  captionFromPicture: string;
  trueSound?: Sound;
  /** The true sound through the tokenizer and back. */
  tokenSound?: Sound;
  /** Generated from the caption. */
  sound?: Sound;
}

/** Everything a report shows. */
export interface ReportData {
  title: string;
  /** Label and value, shown at the top. */
  facts: [label: string, value: string][];
  curves: ModalityCurves[];
  throughput: Curve;
  samples: ReportSample[];
  /** What was generated while it trained, oldest first, with the folder of its files. */
  trainingSamples: { step: number; folder: string; list: TrainingSample[] }[];
  attribution: { what: string; by: string; licence: string; url: string }[];
  /** The resolved config, as YAML. */
  config: string;
}
