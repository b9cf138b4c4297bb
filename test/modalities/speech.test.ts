import { describe, expect, test } from '@jest/globals';
import { griffinLim } from '../../lib/modalities/speech/griffin_lim.js';
import { logMel, MELS, melMagnitudes } from '../../lib/modalities/speech/mel.js';
import { collapseRepeats, SpeechTokenizer } from '../../lib/modalities/speech/speech_units.js';
import { BINS, FFT_SIZE, HOP, SAMPLE_RATE, Stft } from '../../lib/modalities/speech/stft.js';
import type { Sound } from '../../lib/modalities/tokenizer.js';
import { pitches, smoothPitch, synthesize } from '../../lib/modalities/speech/voice.js';
import { makeSpeech, stream } from './support.js';

function tone(hertz: number, frames: number): Float32Array {
  return Float32Array.from({ length: frames * HOP }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hertz * i) / SAMPLE_RATE));
}

function magnitudes(samples: Float32Array, frames: number): Float64Array {
  const re = new Float64Array(frames * BINS);
  const im = new Float64Array(frames * BINS);
  new Stft().forward(samples, frames, re, im);
  return re.map((value, i) => Math.hypot(value, im[i]!));
}

describe('Stft', () => {
  test('has half the amplitude of a sine in its bin', () => {
    const bin = 40;
    const found = magnitudes(tone((bin * SAMPLE_RATE) / FFT_SIZE, 20), 20);
    expect(found[10 * BINS + bin]).toBeCloseTo(0.25, 3);
    expect(found[10 * BINS + bin + 20]).toBeLessThan(1e-3);
  });

  test('gives the samples back', () => {
    const next = stream(1);
    const samples = Float32Array.from({ length: 30 * HOP }, () => next() - 0.5);
    const re = new Float64Array(30 * BINS);
    const im = new Float64Array(30 * BINS);
    const back = new Float64Array(samples.length);
    const stft = new Stft();
    stft.forward(samples, 30, re, im);
    stft.inverse(re, im, 30, back);
    expect(Math.max(...back.map((value, i) => Math.abs(value - samples[i]!)))).toBeLessThan(1e-6);
  });
});

describe('log-mel features', () => {
  test('of a tone are largest in its band, and give its magnitudes back', () => {
    const frames = 12;
    const features = logMel(tone(1000, frames), frames);
    const row = features.subarray(6 * MELS, 7 * MELS);
    const band = row.indexOf(Math.max(...row));
    const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
    expect(Math.abs(band - ((toMel(1000) / toMel(8000)) * (MELS + 1) - 1))).toBeLessThan(1);
    const spectrum = melMagnitudes(features, frames).subarray(6 * BINS, 7 * BINS);
    expect(Math.abs(spectrum.indexOf(Math.max(...spectrum)) - (1000 * FFT_SIZE) / SAMPLE_RATE)).toBeLessThan(3);
  });

  test('of silence are the floor', () => {
    for (const value of logMel(new Float32Array(4 * HOP), 4)) expect(value).toBeCloseTo(Math.log(3e-4), 6);
  });
});

describe('griffinLim', () => {
  test('reproduces a tone from its magnitudes', () => {
    const frames = 30;
    const wanted = magnitudes(tone(440, frames), frames);
    const sound = griffinLim(wanted, frames, { iterations: 60 });
    const found = magnitudes(sound, frames);
    let error = 0;
    let norm = 0;
    for (let i = 0; i < wanted.length; i++) {
      error += (wanted[i]! - found[i]!) ** 2;
      norm += wanted[i]! ** 2;
    }
    expect(Math.sqrt(error / norm)).toBeLessThan(0.1);
    // Upward zero crossings of the 200 ms in the middle.
    let crossings = 0;
    for (let i = 5 * HOP; i < 25 * HOP; i++) if (sound[i]! < 0 && sound[i + 1]! >= 0) crossings++;
    expect(Math.abs(crossings - 440 * 0.2)).toBeLessThan(4);
    expect(griffinLim(wanted, frames, { iterations: 60 })).toEqual(sound);
  });

  test('takes no frames', () => {
    expect(griffinLim(new Float64Array(0), 0).length).toBe(0);
  });
});

describe('voice', () => {
  const pulses = (hertz: number, length: number): Float32Array =>
    Float32Array.from({ length }, (_, i) => (i % Math.round(SAMPLE_RATE / hertz) === 0 ? 1 : 0));
  const noise = (length: number): Float32Array => {
    const next = stream(3);
    return Float32Array.from({ length }, () => next() - 0.5);
  };

  test('has the pitch of its pulses; noise and silence have none', () => {
    for (const hertz of [80, 125, 200, 320]) {
      const found = pitches(pulses(hertz, 8000), 12, 640);
      for (const value of found.subarray(2, 10)) expect(Math.abs(value / hertz - 1)).toBeLessThan(0.03);
    }
    expect(pitches(noise(8000), 12, 640).filter((value) => value > 0).length).toBe(0);
    expect([...pitches(new Float32Array(8000), 12, 640)]).toEqual(new Array(12).fill(0));
  });

  test('gets magnitudes and pitch that it is given', () => {
    const frames = 48;
    const features = logMel(makeSpeech(5).samples.subarray(0, frames * HOP), frames);
    const pitch = new Float64Array(frames).fill(150, 0, 32);
    const sound = synthesize(melMagnitudes(features, frames), pitch);
    const found = pitches(sound, 12, 640);
    for (const value of found.subarray(2, 6)) expect(Math.abs(value / 150 - 1)).toBeLessThan(0.05);
    expect(found.subarray(9).filter((value) => value > 0).length).toBe(0);
    const heard = logMel(sound, frames);
    const error = heard.reduce((sum, value, i) => sum + (value - features[i]!) ** 2, 0) / heard.length;
    expect(Math.sqrt(error)).toBeLessThan(0.7);
    expect(synthesize(melMagnitudes(features, frames), pitch)).toEqual(sound);
  });

  test('glides from pitch to pitch', () => {
    const smooth = smoothPitch(Float64Array.of(0, 100, 100, 100, 100, 100, 200, 200, 200, 200, 200, 0));
    expect(smooth[0]).toBe(0);
    expect(smooth[11]).toBe(0);
    for (let i = 2; i < 11; i++) expect(smooth[i]).toBeGreaterThanOrEqual(smooth[i - 1]!);
    expect(smooth[5]).toBeCloseTo(150, 6);
  });
});

describe('SpeechTokenizer', () => {
  const sounds = Array.from({ length: 16 }, (_, i) => makeSpeech(i));
  const unseen = Array.from({ length: 4 }, (_, i) => makeSpeech(100 + i));
  const tokenizer = SpeechTokenizer.train(sounds, { units: 60 });
  const decoded = unseen.map((sound) => tokenizer.decode(tokenizer.encode(sound)));

  test('has 25 units a second, and removes repeats', () => {
    for (const sound of unseen) {
      const units = tokenizer.encodeWithRepeats(sound);
      expect(units.length).toBe(Math.ceil(sound.samples.length / 640));
      const ids = tokenizer.encode(sound);
      expect(ids).toEqual(collapseRepeats(units));
      expect(ids.length).toBeLessThan(units.length);
      for (let i = 1; i < ids.length; i++) expect(ids[i]).not.toBe(ids[i - 1]);
    }
  });

  test('decodes to sound that is as long and alike', () => {
    let [before, after, own, other] = [0, 0, 0, 0];
    unseen.forEach((sound, i) => {
      expect(decoded[i]!.sampleRate).toBe(16000);
      expect(Math.max(...decoded[i]!.samples)).toBeGreaterThan(0.1);
      before += sound.samples.length;
      after += decoded[i]!.samples.length;
      own += spectralDistance(decoded[i]!, sound);
      other += spectralDistance(decoded[i]!, unseen[(i + 1) % unseen.length]!);
    });
    expect(Math.abs(after / before - 1)).toBeLessThan(0.25);
    expect(own).toBeLessThan(0.6 * other);
  });

  test('decodes to a voice', () => {
    const voicedShare = ({ samples }: Sound): number => {
      const count = Math.floor(samples.length / 640);
      return pitches(samples, count, 640).filter((value) => value > 90 && value < 150).length / count;
    };
    unseen.forEach((sound, i) => {
      expect(voicedShare(sound)).toBeGreaterThan(0.7);
      expect(voicedShare(decoded[i]!)).toBeGreaterThan(0.6);
    });
  });

  test('gives a unit its usual length', () => {
    // Tones of 400 ms each: a decoded tone is about as long.
    const long = SpeechTokenizer.train(
      [500, 1000, 2000, 4000].map((hertz) => ({ sampleRate: 16000, samples: tone(hertz, 40) })),
      { units: 4 },
    );
    const { samples } = long.decode(long.encode({ sampleRate: 16000, samples: tone(1000, 40) }));
    expect(samples.length / 16000).toBeGreaterThan(0.25);
    expect(samples.length / 16000).toBeLessThan(0.6);
  });

  test('hears the same at another level and sample rate', () => {
    const sound = unseen[0]!;
    const quiet: Sound = { ...sound, samples: sound.samples.map((value) => value / 4) };
    expect(tokenizer.encode(quiet)).toEqual(tokenizer.encode(sound));
    const units = tokenizer.encodeWithRepeats(sound);
    const fast = tokenizer.encodeWithRepeats(makeSpeech(100, 32000));
    const same = units.filter((unit, i) => unit === fast[i]).length;
    expect(same / units.length).toBeGreaterThan(0.8);
  });

  test('is the same on several threads', async () => {
    // 1528 units: fewer than BLOCK would stay on this thread.
    const many = Array.from({ length: 4 }, () => sounds).flat();
    const same = await SpeechTokenizer.trainOnThreads(many, { units: 20 }, 2);
    expect(same.toTensors()).toEqual(SpeechTokenizer.train(many, { units: 20 }).toTensors());
  });

  test('is the same every time, and after its tensors', () => {
    const again = SpeechTokenizer.train(sounds, { units: 60 });
    const loaded = SpeechTokenizer.fromTensors(tokenizer.toTensors());
    for (const sound of unseen) {
      expect(again.encode(sound)).toEqual(tokenizer.encode(sound));
      expect(loaded.encode(sound)).toEqual(tokenizer.encode(sound));
    }
    expect(loaded.decode([1, 2, 3])).toEqual(tokenizer.decode([1, 2, 3]));
  });

  test('allows any unit and at least one', () => {
    expect(tokenizer.rule(0)).toEqual({ begin: 0, end: 60, mayEnd: false });
    expect(tokenizer.rule(1)).toEqual({ begin: 0, end: 60, mayEnd: true });
  });

  test('takes silence and nothing, and rejects what does not fit', () => {
    expect(tokenizer.encode({ sampleRate: 16000, samples: new Float32Array(0) }).length).toBe(0);
    expect(tokenizer.encode({ sampleRate: 16000, samples: new Float32Array(6400) }).length).toBe(1);
    expect(tokenizer.decode([]).samples.length).toBe(0);
    const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' });
    expect(() => tokenizer.decode([60])).toThrow(argument);
    expect(() => SpeechTokenizer.train([])).toThrow(argument);
    expect(() => SpeechTokenizer.fromTensors({})).toThrow(expect.objectContaining({ code: 'ERR_FILE_FORMAT' }));
  });
});

/** Mean squared difference of log-mel features, one frame in four, along the alignment in which it is least. */
function spectralDistance(a: Sound, b: Sound): number {
  const [rowsA, rowsB] = [a, b].map(({ samples }) => {
    const frames = Math.floor(samples.length / HOP);
    const features = logMel(samples, frames);
    return Array.from({ length: Math.floor(frames / 4) }, (_, i) =>
      features.subarray(4 * i * MELS, (4 * i + 1) * MELS),
    );
  }) as [Float64Array[], Float64Array[]];
  const cost = Array.from({ length: rowsA.length + 1 }, () => new Float64Array(rowsB.length + 1).fill(Infinity));
  cost[0]![0] = 0;
  rowsA.forEach((rowA, i) => {
    rowsB.forEach((rowB, j) => {
      const distance = rowA.reduce((sum, value, m) => sum + (value - rowB[m]!) ** 2, 0);
      cost[i + 1]![j + 1] = distance + Math.min(cost[i]![j + 1]!, cost[i + 1]![j]!, cost[i]![j]!);
    });
  });
  return cost[rowsA.length]![rowsB.length]! / (rowsA.length + rowsB.length);
}
