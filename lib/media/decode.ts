import { readFile } from 'node:fs/promises';
import { MotError } from '../errors.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import { audioFormat, decodeStreamed, type Channels } from './channels.js';
import { resample } from './resample.js';

/** Options of decodeImage() and readImage(). */
export interface DecodeImageOptions {
  /**
   * How a file of other proportions is made to fit: `letterbox` shows all of it between bars of the background, `cover`
   * fills the picture and cuts what hangs over. Default `letterbox`.
   */
  fit?: 'letterbox' | 'cover';
  /** Colour behind transparent parts and of the bars, as CSS writes it. Default `white`. */
  background?: string;
  /** Pixels of the file; larger ones are an error. Default 2^28. */
  maxPixels?: number;
}

/** Options of decodeAudio() and readAudio(). */
export interface DecodeAudioOptions {
  /** Samples a second. Default 16000. */
  sampleRate?: number;
  /** Longer sounds are an error. Default 60 s. */
  maxSeconds?: number;
}

/**
 * A picture of `width` x `height` pixels from the bytes of an image file: PNG, JPEG, WebP, GIF, AVIF, TIFF or SVG
 * (nothing that an SVG refers to is fetched or read).
 *
 * @throws MotError ERR_FILE_FORMAT, ERR_ARGUMENT for a size that is not in [1, 16384].
 */
export async function decodeImage(
  file: Uint8Array,
  width: number,
  height: number,
  options: DecodeImageOptions = {},
): Promise<Picture> {
  const { fit = 'letterbox', background = 'white', maxPixels = 2 ** 28 } = options;
  for (const side of [width, height]) {
    if (!Number.isInteger(side) || side < 1 || side > 16384) {
      throw new MotError('ERR_ARGUMENT', `decodeImage: expected a width and height in [1, 16384], got ${side}`);
    }
  }
  const { default: sharp } = await import('sharp');
  try {
    const { data } = await sharp(file, { limitInputPixels: maxPixels })
      .autoOrient()
      .flatten({ background })
      .resize(width, height, { fit: fit === 'cover' ? 'cover' : 'contain', background })
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { width, height, data: new Uint8Array(data) };
  } catch (cause) {
    throw new MotError(
      'ERR_FILE_FORMAT',
      `could not decode the image (${reason(cause)}); expected PNG, JPEG, WebP, GIF, AVIF, TIFF or SVG`,
      { cause },
    );
  }
}

/**
 * decodeImage() of a file.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, ERR_ARGUMENT.
 */
export async function readImage(
  path: string,
  width: number,
  height: number,
  options: DecodeImageOptions = {},
): Promise<Picture> {
  return inFile(path, (bytes) => decodeImage(bytes, width, height, options));
}

/**
 * A mono sound from the bytes of an audio file: WAV, MP3, FLAC, Ogg and others; channels become their mean.
 *
 * @throws MotError ERR_FILE_FORMAT, ERR_LIMIT for a sound that is too long, ERR_NOT_FINITE.
 */
export async function decodeAudio(file: Uint8Array, options: DecodeAudioOptions = {}): Promise<Sound> {
  const { sampleRate = 16000, maxSeconds = 60 } = options;
  const { channelData, sampleRate: from } = await decodeChannels(file, maxSeconds);
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
  return { sampleRate, samples: resample(mono, from, sampleRate) };
}

/**
 * decodeAudio() of a file.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_FILE_FORMAT, ERR_LIMIT, ERR_NOT_FINITE.
 */
export async function readAudio(path: string, options: DecodeAudioOptions = {}): Promise<Sound> {
  return inFile(path, (bytes) => decodeAudio(bytes, options));
}

async function decodeChannels(file: Uint8Array, maxSeconds: number): Promise<Channels> {
  const format = audioFormat(file);
  try {
    if (format !== undefined) return await decodeStreamed(file, format, maxSeconds);
    const { default: decode } = await import('audio-decode');
    return await decode(file);
  } catch (cause) {
    if (cause instanceof MotError) throw cause;
    throw new MotError(
      'ERR_FILE_FORMAT',
      `could not decode the audio (${reason(cause)}); expected WAV, MP3, FLAC or Ogg`,
      { cause },
    );
  }
}

/** Reads and decodes a file; errors name it. */
async function inFile<T>(path: string, decode: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new MotError('ERR_FILE_OPEN', `could not read ${path} (${reason(cause)}); check the path`, { cause });
  }
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
