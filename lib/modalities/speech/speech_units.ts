import { MotError } from '../../errors.js';
import { resample } from '../../media/resample.js';
import { CodeSearch, kmeansSteps } from '../kmeans.js';
import { principalAxesSteps, rotate, rotateBack, rotateSteps, type Rotation } from '../rotation.js';
import { expectTensor, type TensorSet } from '../tensors.js';
import { runHere, runOnThreads, sharedFloat64, type Steps } from '../training_steps.js';
import type { Sound, SpanRule, Tokenizer } from '../tokenizer.js';
import { logMel, MELS, melMagnitudes } from './mel.js';
import { HOP, SAMPLE_RATE } from './stft.js';
import { pitches, smoothPitch, synthesize } from './voice.js';

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
 * Sounds are brought to one level first. Decoding gives a unit the length and pitch that it had on average in
 * training, since 40 bands are too coarse to hold the pitch; see voice.ts.
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
  /** Pitch of each unit in Hz, 0 where most of its sounds are not voiced. */
  readonly #pitch: Float32Array;

  private constructor(rotation: Rotation, codes: Float32Array, runs: Float32Array, pitch: Float32Array) {
    this.size = runs.length;
    this.#rotation = rotation;
    this.#codes = codes;
    this.#search = new CodeSearch(codes, DIM);
    this.#runs = runs;
    this.#pitch = pitch;
  }

  /** Learns the units from sounds of any sample rate. Deterministic. */
  static train(sounds: readonly Sound[], options: SpeechTokenizerOptions = {}): SpeechTokenizer {
    return runHere(SpeechTokenizer.#trainSteps(sounds, options));
  }

  /** train() on so many threads, of which this is one and busy meanwhile; the result is the same. */
  static trainOnThreads(
    sounds: readonly Sound[],
    options: SpeechTokenizerOptions,
    threads: number,
  ): Promise<SpeechTokenizer> {
    return runOnThreads(SpeechTokenizer.#trainSteps(sounds, options), threads);
  }

  static *#trainSteps(sounds: readonly Sound[], options: SpeechTokenizerOptions): Steps<SpeechTokenizer> {
    const { units = 500, seed = 0 } = options;
    const waves = sounds.map(toWave);
    const features = waves.map(unitFeatures);
    const total = features.reduce((sum, part) => sum + part.length, 0);
    if (total === 0) {
      throw new MotError('ERR_ARGUMENT', 'SpeechTokenizer.train needs at least one sound that is not empty');
    }
    const all = sharedFloat64(total);
    let at = 0;
    for (const part of features) {
      all.set(part, at);
      at += part.length;
    }
    const rotation = yield* principalAxesSteps(all, DIM);
    const rotated = yield* rotateSteps(rotation, all);
    const { codes, assignment } = yield* kmeansSteps(rotated, DIM, { codes: units, seed });
    const { runs, pitch } = habits(waves, assignment, units);
    return new SpeechTokenizer(rotation, codes, runs, pitch);
  }

  encode(sound: Sound): Int32Array {
    return collapseRepeats(this.encodeWithRepeats(sound));
  }

  /** One unit for each 40 ms begun. */
  encodeWithRepeats(sound: Sound): Int32Array {
    const features = unitFeatures(toWave(sound));
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
    const pitch = new Float64Array(frames);
    let frame = 0;
    for (const run of runs) {
      const unit = rotateBack(this.#rotation, this.#codes, run.unit * DIM, true);
      pitch.fill(this.#pitch[run.unit]!, frame, frame + run.frames);
      for (let i = 0; i < run.frames; i++, frame++) stretch(unit, i, run.frames, features, frame * MELS);
    }
    return { sampleRate: SAMPLE_RATE, samples: synthesize(melMagnitudes(features, frames), smoothPitch(pitch)) };
  }

  /** Any unit; at least one. */
  rule(length: number): SpanRule {
    return { begin: 0, end: this.size, mayEnd: length > 0 };
  }

  /** `mean` [d], `basis` [d, d], `codes` [units, d], `runs` and `pitch` [units]; d is 160. */
  toTensors(): TensorSet {
    return {
      mean: { shape: [DIM], data: this.#rotation.mean },
      basis: { shape: [DIM, DIM], data: this.#rotation.basis },
      codes: { shape: [this.size, DIM], data: this.#codes },
      runs: { shape: [this.size], data: this.#runs },
      pitch: { shape: [this.size], data: this.#pitch },
    };
  }

  static fromTensors(tensors: TensorSet): SpeechTokenizer {
    const mean = expectTensor(tensors, 'mean', [DIM]).data;
    const basis = expectTensor(tensors, 'basis', [DIM, DIM]).data;
    const codes = expectTensor(tensors, 'codes', [-1, DIM]);
    const runs = expectTensor(tensors, 'runs', [codes.shape[0]!]);
    const pitch = expectTensor(tensors, 'pitch', [codes.shape[0]!]);
    return new SpeechTokenizer({ mean, basis }, codes.data, runs.data, pitch.data);
  }
}

/** The ids without those that repeat the one before. */
export function collapseRepeats(ids: Int32Array): Int32Array {
  return ids.filter((id, i) => i === 0 || id !== ids[i - 1]);
}

/** How units sound in training: the mean length of their runs, and their mean pitch (0 where most are not voiced). */
function habits(
  waves: readonly Float32Array[],
  assignment: Int32Array,
  units: number,
): { runs: Float32Array; pitch: Float32Array } {
  const total = new Float64Array(units);
  const runs = new Float64Array(units);
  const voiced = new Float64Array(units);
  const logPitch = new Float64Array(units);
  let place = 0;
  for (const wave of waves) {
    const count = unitCount(wave);
    pitches(wave, count, UNIT_SAMPLES).forEach((hertz, i) => {
      const unit = assignment[place + i]!;
      total[unit]!++;
      if (i === 0 || assignment[place + i - 1] !== unit) runs[unit]!++;
      if (hertz > 0) {
        voiced[unit]!++;
        logPitch[unit]! += Math.log(hertz);
      }
    });
    place += count;
  }
  return {
    runs: Float32Array.from(total, (count, unit) => (count > 0 ? count / runs[unit]! : 1)),
    pitch: Float32Array.from(total, (count, unit) =>
      2 * voiced[unit]! > count ? Math.exp(logPitch[unit]! / voiced[unit]!) : 0,
    ),
  };
}

/** A sound at 16 kHz and LEVEL. */
function toWave(sound: Sound): Float32Array {
  const samples = resample(sound.samples, sound.sampleRate, SAMPLE_RATE);
  const gain = Math.min(Math.max(LEVEL / level(samples), 1 / MOST_GAIN), MOST_GAIN);
  return samples.map((sample) => gain * sample);
}

/** Units of so many samples, the last one perhaps not full. */
function unitCount(wave: Float32Array): number {
  return Math.ceil(wave.length / UNIT_SAMPLES);
}

/** Features [units, DIM]. */
function unitFeatures(wave: Float32Array): Float64Array {
  return logMel(wave, unitCount(wave) * FRAMES);
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
