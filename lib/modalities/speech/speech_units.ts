import { MotError } from '../../errors.js';
import { resample } from '../../media/resample.js';
import { CodeSearch, kmeans } from '../kmeans.js';
import { principalAxes, rotate, rotateBack, type Rotation } from '../rotation.js';
import { expectTensor, type TensorSet } from '../tensors.js';
import type { Sound, SpanRule, Tokenizer } from '../tokenizer.js';
import { griffinLim } from './griffin_lim.js';
import { logMel, MELS, melMagnitudes } from './mel.js';
import { HOP, SAMPLE_RATE } from './stft.js';

/** Options of SpeechTokenizer.train(). */
export interface SpeechTokenizerOptions {
  /** Default 500. */
  units?: number;
  /** Default 0. */
  seed?: number;
}

/** 10 ms frames of a unit, so that there are 25 units a second. */
const FRAMES = 4;
/** Samples and features of a unit: its frames' log-mel features, one after the other. */
const UNIT_SAMPLES = FRAMES * HOP;
const DIM = FRAMES * MELS;
/** Level that sounds are brought to, and the most that they are raised or lowered for it. */
const LEVEL = 0.25;
const MOST_GAIN = 10;
/** Longest run that decode() makes of one unit, in units. */
const LONGEST_RUN = 12;

/**
 * Speech as k-means units of 40 ms log-mel features (16 kHz, 25 ms Hann window, 10 ms hop, 40 bands), repeats removed.
 * Sounds are brought to one level first. Decoding gives a unit the length it had on average in training and finds
 * phases by Griffin-Lim.
 */
export class SpeechTokenizer implements Tokenizer<Sound> {
  readonly modality = 'speech';
  readonly size: number;
  readonly #rotation: Rotation;
  /** Rotated centres [units, DIM]. */
  readonly #codes: Float32Array;
  readonly #search: CodeSearch;
  /** Mean run of each unit, in units (>= 1). */
  readonly #runs: Float32Array;

  private constructor(rotation: Rotation, codes: Float32Array, runs: Float32Array) {
    this.size = runs.length;
    this.#rotation = rotation;
    this.#codes = codes;
    this.#search = new CodeSearch(codes, DIM);
    this.#runs = runs;
  }

  /** Learns the units from sounds of any sample rate. Deterministic. */
  static train(sounds: readonly Sound[], options: SpeechTokenizerOptions = {}): SpeechTokenizer {
    const { units = 500, seed = 0 } = options;
    const features = sounds.map(unitFeatures);
    const total = features.reduce((sum, part) => sum + part.length, 0);
    if (total === 0)
      throw new MotError('ERR_ARGUMENT', 'SpeechTokenizer.train needs at least one sound that is not empty');
    const all = new Float64Array(total);
    let at = 0;
    for (const part of features) {
      all.set(part, at);
      at += part.length;
    }
    const rotation = principalAxes(all, DIM);
    const rotated = new Float64Array(total);
    for (let i = 0; i < total; i += DIM) rotate(rotation, all, i, rotated, i);
    const { codes, assignment } = kmeans(rotated, DIM, { codes: units, seed });

    const runs = new Float32Array(units);
    const seen = new Float32Array(units);
    let place = 0;
    for (const part of features) {
      for (const end = place + part.length / DIM; place < end;) {
        const unit = assignment[place]!;
        const start = place;
        while (place < end && assignment[place] === unit) place++;
        runs[unit]! += place - start;
        seen[unit]!++;
      }
    }
    return new SpeechTokenizer(
      rotation,
      codes,
      runs.map((sum, unit) => Math.max(1, sum / seen[unit]! || 1)),
    );
  }

  encode(sound: Sound): Int32Array {
    return collapseRepeats(this.encodeWithRepeats(sound));
  }

  /** One unit for each 40 ms begun. */
  encodeWithRepeats(sound: Sound): Int32Array {
    const features = unitFeatures(sound);
    const units = new Int32Array(features.length / DIM);
    const vector = new Float64Array(DIM);
    for (let i = 0; i < units.length; i++) {
      rotate(this.#rotation, features, i * DIM, vector, 0);
      units[i] = this.#search.nearest(vector, 0, i > 0 ? units[i - 1]! : -1);
    }
    return units;
  }

  decode(ids: ArrayLike<number>): Sound {
    const runs = Array.from(ids, (unit, at) => {
      const run = this.#runs[unit];
      if (run === undefined)
        throw new MotError('ERR_ARGUMENT', `speech id ${unit} at ${at} is not in [0, ${this.size})`);
      return { unit, frames: Math.round(FRAMES * Math.min(run, LONGEST_RUN)) };
    });
    const frames = runs.reduce((sum, run) => sum + run.frames, 0);
    const features = new Float64Array(frames * MELS);
    let frame = 0;
    for (const run of runs) {
      const unit = rotateBack(this.#rotation, this.#codes, run.unit * DIM, true);
      for (let i = 0; i < run.frames; i++, frame++) stretch(unit, i, run.frames, features, frame * MELS);
    }
    return { sampleRate: SAMPLE_RATE, samples: griffinLim(melMagnitudes(features, frames), frames) };
  }

  /** Any unit; at least one. */
  rule(length: number): SpanRule {
    return { begin: 0, end: this.size, mayEnd: length > 0 };
  }

  /** `mean` [d], `basis` [d, d], `codes` [units, d], `runs` [units]; d is 160. */
  toTensors(): TensorSet {
    return {
      mean: { shape: [DIM], data: this.#rotation.mean },
      basis: { shape: [DIM, DIM], data: this.#rotation.basis },
      codes: { shape: [this.size, DIM], data: this.#codes },
      runs: { shape: [this.size], data: this.#runs },
    };
  }

  static fromTensors(tensors: TensorSet): SpeechTokenizer {
    const mean = expectTensor(tensors, 'mean', [DIM]).data;
    const basis = expectTensor(tensors, 'basis', [DIM, DIM]).data;
    const codes = expectTensor(tensors, 'codes', [-1, DIM]);
    const runs = expectTensor(tensors, 'runs', [codes.shape[0]!]);
    return new SpeechTokenizer({ mean, basis }, codes.data, runs.data);
  }
}

/** The ids without those that repeat the one before. */
export function collapseRepeats(ids: Int32Array): Int32Array {
  return ids.filter((id, i) => i === 0 || id !== ids[i - 1]);
}

/** Features [units, DIM] of a sound. */
function unitFeatures(sound: Sound): Float64Array {
  const resampled = resample(sound.samples, sound.sampleRate, SAMPLE_RATE);
  const gain = Math.min(Math.max(LEVEL / level(resampled), 1 / MOST_GAIN), MOST_GAIN);
  const samples = resampled.map((sample) => gain * sample);
  return logMel(samples, Math.ceil(samples.length / UNIT_SAMPLES) * FRAMES);
}

/** Root mean square of the loud parts: the mean power of 10 ms frames, each weighted by its power. */
function level(samples: Float32Array): number {
  let sum = 0;
  let squares = 0;
  for (let start = 0; start < samples.length; start += HOP) {
    let power = 0;
    for (const sample of samples.subarray(start, start + HOP)) power += (sample * sample) / HOP;
    sum += power;
    squares += power * power;
  }
  return sum > 0 ? Math.sqrt(squares / sum) : LEVEL;
}

/** Frame i of `count` of a unit's FRAMES frames, stretched evenly. */
function stretch(unit: Float32Array, i: number, count: number, features: Float64Array, offset: number): void {
  const place = Math.min(Math.max(((i + 0.5) * FRAMES) / count - 0.5, 0), FRAMES - 1);
  const low = Math.min(Math.floor(place), FRAMES - 2);
  const share = place - low;
  for (let m = 0; m < MELS; m++) {
    features[offset + m] = (1 - share) * unit[low * MELS + m]! + share * unit[(low + 1) * MELS + m]!;
  }
}
