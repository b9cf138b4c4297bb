import { writeFile } from 'node:fs/promises';
import { MotError } from '../errors.js';
import type { Sound } from '../modalities/tokenizer.js';

const HEADER_BYTES = 44;

/** A mono WAV file of 16-bit samples; samples beyond [-1, 1] are clipped. */
export function encodeWav(sound: Sound): Uint8Array {
  const { samples, sampleRate } = sound;
  const bytes = Buffer.alloc(HEADER_BYTES + 2 * samples.length);
  bytes.write('RIFF', 0, 'latin1');
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.write('WAVEfmt ', 8, 'latin1');
  bytes.writeUInt32LE(16, 16); // bytes of the format chunk
  bytes.writeUInt16LE(1, 20); // PCM
  bytes.writeUInt16LE(1, 22); // channels
  bytes.writeUInt32LE(sampleRate, 24);
  bytes.writeUInt32LE(2 * sampleRate, 28); // bytes a second
  bytes.writeUInt16LE(2, 32); // bytes of a frame
  bytes.writeUInt16LE(16, 34); // bits of a sample
  bytes.write('data', 36, 'latin1');
  bytes.writeUInt32LE(2 * samples.length, 40);
  for (let i = 0; i < samples.length; i++) {
    const value = Math.min(1, Math.max(-1, samples[i]!));
    bytes.writeInt16LE(Math.max(-32768, Math.min(32767, Math.round(value * 32768))), HEADER_BYTES + 2 * i);
  }
  return bytes;
}

/**
 * Writes a WAV file; see encodeWav().
 *
 * @throws MotError ERR_FILE_WRITE.
 */
export async function writeWav(path: string, sound: Sound): Promise<void> {
  const bytes = encodeWav(sound);
  try {
    await writeFile(path, bytes);
  } catch (cause) {
    throw new MotError('ERR_FILE_WRITE', `could not write ${path}; check its folder and the space left`, { cause });
  }
}

/** Reads a WAV file of 16-bit samples; several channels become their mean. */
export function decodeWav(file: Uint8Array): Sound {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (bytes.length < 12 || bytes.toString('latin1', 0, 4) !== 'RIFF' || bytes.toString('latin1', 8, 12) !== 'WAVE') {
    throw formatError('no RIFF WAVE header');
  }
  let format: { channels: number; sampleRate: number } | undefined;
  for (let at = 12; at + 8 <= bytes.length;) {
    const name = bytes.toString('latin1', at, at + 4);
    const start = at + 8;
    // Programs that stream leave 0 or 0xffffffff as the length of the data: then it reaches to the end of the file.
    const stated = bytes.readUInt32LE(at + 4);
    const end = Math.min(start + (name === 'data' && stated === 0 ? bytes.length : stated), bytes.length);
    if (name === 'fmt ') {
      if (end - start < 16) throw formatError('a format chunk that is too short');
      const [encoding, channels, bits] = [0, 2, 14].map((offset) => bytes.readUInt16LE(start + offset));
      const sampleRate = bytes.readUInt32LE(start + 4);
      // 0xfffe: extensible, its first sub-format bytes say PCM.
      const pcm = encoding === 1 || (encoding === 0xfffe && end - start >= 26 && bytes.readUInt16LE(start + 24) === 1);
      if (!pcm || bits !== 16 || !channels || sampleRate === 0) {
        throw formatError(`encoding ${encoding} with ${bits} bits and ${channels} channels`);
      }
      format = { channels, sampleRate };
    } else if (name === 'data') {
      if (format === undefined) throw formatError('data before its format');
      return { sampleRate: format.sampleRate, samples: readSamples(bytes.subarray(start, end), format.channels) };
    }
    at = end + (stated % 2);
  }
  throw formatError('no data');
}

function readSamples(bytes: Buffer, channels: number): Float32Array {
  const samples = new Float32Array(Math.floor(bytes.length / (2 * channels)));
  for (let i = 0; i < samples.length; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += bytes.readInt16LE(2 * (i * channels + c));
    samples[i] = sum / (32768 * channels);
  }
  return samples;
}

function formatError(what: string): MotError {
  return new MotError('ERR_FILE_FORMAT', `WAV file: expected 16-bit PCM, got ${what}; decodeAudio reads more formats`);
}
