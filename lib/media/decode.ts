import { readFile } from 'node:fs/promises';
import { MotError } from '../errors.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import { resample } from './resample.js';

/** Options of decodeImage() and readImage(). */
export interface DecodeImageOptions {
  /** Side of the square picture in pixels. Default 32. */
  size?: number;
  /**
   * How a file that is not square becomes square: `letterbox` shows all of it between bars of the background, `cover`
   * fills the square and cuts what hangs over. Default `letterbox`.
   */
  fit?: 'letterbox' | 'cover';
  /** Colour behind transparent parts and of the bars, as CSS writes it. Default `white`. */
  background?: string;
}

/** Options of decodeSound() and readSound(). */
export interface DecodeSoundOptions {
  /** Default 16000. */
  sampleRate?: number;
  /** Root mean square that the sound is scaled to. Default: as it is. */
  level?: number;
  /** Longer sounds are an error. Default 60 s. */
  maxSeconds?: number;
}

/** A picture from the bytes of an image file: PNG, JPEG, WebP, GIF, AVIF, TIFF or SVG. */
export async function decodeImage(file: Uint8Array, options: DecodeImageOptions = {}): Promise<Picture> {
  const { size = 32, fit = 'letterbox', background = 'white' } = options;
  if (!Number.isInteger(size) || size < 1 || size > 16384) {
    throw new MotError('ERR_ARGUMENT', `decodeImage: expected a size in [1, 16384], got ${size}`);
  }
  const { default: sharp } = await import('sharp');
  try {
    const { data, info } = await sharp(file)
      .autoOrient()
      .flatten({ background })
      .resize(size, size, { fit: fit === 'cover' ? 'cover' : 'contain', background })
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data: new Uint8Array(data) };
  } catch (cause) {
    throw new MotError(
      'ERR_FILE_FORMAT',
      `could not decode the image (${reason(cause)}); expected PNG, JPEG, WebP, GIF, AVIF, TIFF or SVG`,
      { cause },
    );
  }
}

/** decodeImage() of a file. */
export async function readImage(path: string, options: DecodeImageOptions = {}): Promise<Picture> {
  return inFile(path, await readBytes(path), (bytes) => decodeImage(bytes, options));
}

/** A mono sound from the bytes of an audio file: WAV, MP3, FLAC, Ogg and others; channels become their mean. */
export async function decodeSound(file: Uint8Array, options: DecodeSoundOptions = {}): Promise<Sound> {
  const { sampleRate = 16000, level, maxSeconds = 60 } = options;
  const { channelData, sampleRate: from } = await decodeAudio(file);
  const length = channelData[0]?.length ?? 0;
  if (length === 0 || !(from > 0)) throw new MotError('ERR_FILE_FORMAT', 'the audio file holds no sound');
  if (length > maxSeconds * from) {
    throw new MotError(
      'ERR_LIMIT',
      `the sound lasts ${(length / from).toFixed(1)} s; cut it to ${maxSeconds} s, or raise maxSeconds`,
    );
  }
  const mono = new Float32Array(length);
  for (const channel of channelData) for (let i = 0; i < length; i++) mono[i]! += channel[i]! / channelData.length;
  if (!mono.every(Number.isFinite))
    throw new MotError('ERR_NOT_FINITE', 'the audio file holds NaN or infinite samples');
  const samples = resample(mono, from, sampleRate);
  return { sampleRate, samples: level === undefined ? samples : scaleTo(samples, level) };
}

/** decodeSound() of a file. */
export async function readSound(path: string, options: DecodeSoundOptions = {}): Promise<Sound> {
  return inFile(path, await readBytes(path), (bytes) => decodeSound(bytes, options));
}

async function decodeAudio(file: Uint8Array): Promise<{ channelData: Float32Array[]; sampleRate: number }> {
  const { default: decode } = await import('audio-decode');
  try {
    return await decode(file);
  } catch (cause) {
    throw new MotError(
      'ERR_FILE_FORMAT',
      `could not decode the audio (${reason(cause)}); expected WAV, MP3, FLAC or Ogg`,
      { cause },
    );
  }
}

/** The samples at a root mean square of `level`, or less where they would clip. */
function scaleTo(samples: Float32Array, level: number): Float32Array {
  let power = 0;
  let peak = 0;
  for (const sample of samples) {
    power += (sample * sample) / samples.length;
    peak = Math.max(peak, Math.abs(sample));
  }
  if (peak === 0) return samples;
  const gain = Math.min(level / Math.sqrt(power), 1 / peak);
  return samples.map((sample) => sample * gain);
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new MotError('ERR_FILE_OPEN', `could not read ${path} (${reason(cause)}); check the path`, { cause });
  }
}

/** Runs a decoder; its errors name the file. */
async function inFile<T>(path: string, bytes: Uint8Array, decode: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  try {
    return await decode(bytes);
  } catch (error) {
    if (!(error instanceof MotError)) throw error;
    throw new MotError(error.code, `${path}: ${error.message}`, { cause: error.cause });
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message.split('\n')[0]! : String(error);
}
