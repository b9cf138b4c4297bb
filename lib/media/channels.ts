import { MotError } from '../errors.js';

/** Decoded samples, one array a channel. */
export interface Channels {
  channelData: Float32Array[];
  sampleRate: number;
}

/** Containers that are decoded piece by piece, so that a small file that unpacks to hours is stopped in time. */
export type StreamedFormat = 'wav' | 'flac' | 'mp3' | 'oga' | 'opus';

/** Bytes of a piece: a packed piece of silence stays below some hundred MB even in FLAC. */
const PIECE = 4096;

/** The format that the first bytes of a file tell; undefined for others than WAV, FLAC, MP3 and Ogg. */
export function audioFormat(file: Uint8Array): StreamedFormat | undefined {
  const bytes = Buffer.from(file.buffer, file.byteOffset, Math.min(file.byteLength, 64));
  const magic = bytes.toString('latin1', 0, 4);
  if (magic === 'RIFF') return 'wav';
  if (magic === 'fLaC') return 'flac';
  if (magic === 'OggS') {
    const inside = bytes.toString('latin1', 28);
    // Ogg holds FLAC and others too; those are left to the decoder that looks at the whole file.
    return inside.startsWith('OpusHead') ? 'opus' : inside.startsWith('\x01vorbis') ? 'oga' : undefined;
  }
  if (magic.startsWith('ID3') || (bytes[0] === 0xff && (bytes[1]! & 0xe6) === 0xe2)) return 'mp3';
  return undefined;
}

/**
 * The samples of a sound, decoded in pieces.
 *
 * @throws MotError ERR_LIMIT once there are more than `maxSeconds`; whatever the decoder throws.
 */
export async function decodeStreamed(file: Uint8Array, format: StreamedFormat, maxSeconds: number): Promise<Channels> {
  const { default: decode } = await import('audio-decode');
  const decoder = await decode[format]();
  const parts: Float32Array[][] = [];
  let sampleRate = 0;
  let length = 0;
  const add = (part: Channels): void => {
    if (part.channelData.length === 0) return;
    sampleRate = part.sampleRate;
    length += part.channelData[0]!.length;
    parts.push(part.channelData);
    if (length > maxSeconds * sampleRate)
      throw new MotError(
        'ERR_LIMIT',
        `the sound lasts longer than ${maxSeconds} s; cut it, or raise the limit (maxSeconds, limits.audio_seconds)`,
      );
  };
  try {
    // WAV is not packed: what it unpacks to is no larger than a few times the file.
    const piece = format === 'wav' ? file.length : PIECE;
    for (let at = 0; at < file.length; at += piece) add(await decoder(file.subarray(at, at + piece)));
    add(await decoder());
  } finally {
    decoder.free();
  }
  const channels = Math.max(0, ...parts.map((part) => part.length));
  const channelData = Array.from({ length: channels }, (_, c) => {
    const joined = new Float32Array(length);
    let at = 0;
    // A mono stretch of a stereo file comes as one channel.
    for (const part of parts) {
      joined.set(part[Math.min(c, part.length - 1)]!, at);
      at += part[0]!.length;
    }
    return joined;
  });
  return { channelData, sampleRate };
}
