import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import sharp from 'sharp';
import { MotError } from '../../lib/errors.js';
import { decodeAudio, decodeImage, readAudio, readImage } from '../../lib/media/decode.js';
import { encodePng, writePng } from '../../lib/media/png.js';
import { resample } from '../../lib/media/resample.js';
import { decodeWav, encodeWav, writeWav } from '../../lib/media/wav.js';
import type { Picture } from '../../lib/modalities/tokenizer.js';

const folder = mkdtempSync(join(tmpdir(), 'mot-media-'));
const picture: Picture = {
  width: 5,
  height: 3,
  data: Uint8Array.from({ length: 45 }, (_, i) => (i * 37) % 256),
};

describe('PNG', () => {
  test('files are read by sharp, each pixel a square', async () => {
    for (const scale of [1, 4]) {
      const { data, info } = await sharp(encodePng(picture, { scale })).raw().toBuffer({ resolveWithObject: true });
      expect([info.width, info.height, info.channels]).toEqual([5 * scale, 3 * scale, 3]);
      for (let y = 0; y < info.height; y++) {
        for (let x = 0; x < info.width; x++) {
          const at = (y * info.width + x) * 3;
          const from = (Math.floor(y / scale) * 5 + Math.floor(x / scale)) * 3;
          expect([...data.subarray(at, at + 3)]).toEqual([...picture.data.subarray(from, from + 3)]);
        }
      }
    }
  });

  test('what does not fit is rejected', async () => {
    const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' });
    expect(() => encodePng(picture, { scale: 1.5 })).toThrow(argument);
    expect(() => encodePng({ ...picture, width: 6 })).toThrow(argument);
    await expect(writePng(join(folder, 'no', 'x.png'), picture)).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
  });
});

describe('WAV', () => {
  const samples = Float32Array.of(0, 0.5, -0.25, 1, -1, 1 / 32768, 2, -2);
  const bytes = Buffer.from(encodeWav({ sampleRate: 22050, samples }));

  test('is read back, clipped to 16 bits', () => {
    const sound = decodeWav(bytes);
    expect(sound.sampleRate).toBe(22050);
    const top = 32767 / 32768;
    expect([...sound.samples]).toEqual([0, 0.5, -0.25, top, -1, 1 / 32768, top, -1].map(Math.fround));
  });

  test('is read by audio-decode', async () => {
    const { samples: read } = await decodeAudio(bytes, { sampleRate: 22050 });
    read.forEach((value, i) => expect(value).toBeCloseTo(Math.min(1, Math.max(-1, samples[i]!)), 3));
  });

  test('may hold several channels, other chunks and a length that was never filled in', () => {
    const stereo = Buffer.from(bytes);
    stereo.writeUInt16LE(2, 22);
    expect([...decodeWav(stereo).samples.subarray(0, 2)]).toEqual([0.25, (32767 / 32768 - 0.25) / 2].map(Math.fround));
    const extra = Buffer.from('LIST\x03\0\0\0abc\0', 'latin1');
    const withExtra = Buffer.concat([bytes.subarray(0, 36), extra, bytes.subarray(36)]);
    expect(decodeWav(withExtra)).toEqual(decodeWav(bytes));
    for (const length of [0, 0xffffffff]) {
      const streamed = Buffer.from(bytes);
      streamed.writeUInt32LE(length, 40);
      expect(decodeWav(streamed)).toEqual(decodeWav(bytes));
    }
  });

  test('that is damaged is a MotError or what can be read, never anything else', () => {
    fc.assert(
      fc.property(
        fc.nat(bytes.length),
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { maxLength: 6 }),
        (length, edits) => {
          const damaged = Buffer.from(bytes);
          for (const [at, value] of edits) damaged[at] = value;
          try {
            const sound = decodeWav(damaged.subarray(0, length));
            expect(sound.samples.length).toBeLessThanOrEqual(samples.length);
          } catch (error) {
            expect(error).toBeInstanceOf(MotError);
            expect((error as MotError).code).toBe('ERR_FILE_FORMAT');
          }
        },
      ),
      { numRuns: 500 },
    );
    expect(() => decodeWav(bytes.subarray(0, 36))).toThrow(MotError);
    expect(() => decodeWav(Buffer.from('<html></html>'))).toThrow(MotError);
  });

  test('that cannot be written is ERR_FILE_WRITE', async () => {
    const sound = { sampleRate: 16000, samples };
    await expect(writeWav(join(folder, 'no', 'x.wav'), sound)).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
    await writeWav(join(folder, 'x.wav'), sound);
    expect(decodeWav(readFileSync(join(folder, 'x.wav'))).samples.length).toBe(samples.length);
  });
});

describe('resample', () => {
  const sine = (hertz: number, rate: number, length: number): Float32Array =>
    Float32Array.from({ length }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));

  test('keeps a tone', () => {
    for (const [from, to] of [
      [48000, 16000],
      [16000, 44100],
      [22050, 16000],
    ] as const) {
      const found = resample(sine(440, from, 4410), from, to);
      const wanted = sine(440, to, found.length);
      expect(found.length).toBe(Math.ceil((4410 * to) / from));
      const edge = Math.ceil(40 * Math.max(1, to / from));
      for (let i = edge; i < found.length - edge; i += 7) expect(Math.abs(found[i]! - wanted[i]!)).toBeLessThan(5e-3);
    }
  });

  test('removes what the lower rate cannot hold', () => {
    const found = resample(sine(11000, 48000, 4800), 48000, 16000);
    for (const value of found.subarray(50, -50)) expect(Math.abs(value)).toBeLessThan(5e-3);
  });

  test('leaves the same rate alone', () => {
    const samples = sine(100, 16000, 50);
    expect(resample(samples, 16000, 16000)).toBe(samples);
    expect(resample(new Float32Array(0), 8000, 16000).length).toBe(0);
    expect(resample(samples.subarray(0, 1), 16000, 8000).length).toBe(1);
    for (const rate of [0, -1, 0.5, Number.NaN]) {
      expect(() => resample(samples, rate, 16000)).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
    }
  });
});

describe('image files', () => {
  // Red left half, blue right half, twice as wide as high.
  const wide: Picture = {
    width: 64,
    height: 32,
    data: Uint8Array.from({ length: 64 * 32 * 3 }, (_, i) => {
      const left = Math.floor(i / 3) % 64 < 32;
      return [left ? 255 : 0, 0, left ? 0 : 255][i % 3]!;
    }),
  };
  const pixel = ({ data, width }: Picture, x: number, y: number): number[] => [
    ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
  ];

  test('are letterboxed, or cover the picture', async () => {
    const path = join(folder, 'wide.png');
    await writePng(path, wide);
    const boxed = await readImage(path, 32, 32);
    expect([boxed.width, boxed.height, boxed.data.length]).toEqual([32, 32, 3072]);
    expect(pixel(boxed, 4, 2)).toEqual([255, 255, 255]);
    expect(pixel(boxed, 4, 16)).toEqual([255, 0, 0]);
    expect(pixel(boxed, 28, 16)).toEqual([0, 0, 255]);
    const dark = await readImage(path, 32, 32, { background: '#102030' });
    expect(pixel(dark, 4, 2)).toEqual([16, 32, 48]);
    const cover = await readImage(path, 32, 32, { fit: 'cover' });
    expect(pixel(cover, 4, 2)).toEqual([255, 0, 0]);
    expect(pixel(cover, 28, 30)).toEqual([0, 0, 255]);
  });

  test('may be grey, transparent or SVG', async () => {
    const grey = await sharp(Buffer.alloc(16, 77), { raw: { width: 4, height: 4, channels: 1 } })
      .png()
      .toBuffer();
    expect(pixel(await decodeImage(grey, 4, 4), 1, 1)).toEqual([77, 77, 77]);
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="4" height="8" fill="#0f0"/></svg>';
    const drawn = await decodeImage(Buffer.from(svg), 8, 8);
    expect(pixel(drawn, 1, 4)).toEqual([0, 255, 0]);
    expect(pixel(drawn, 6, 4)).toEqual([255, 255, 255]);
  });

  test('that are missing or foreign are errors that name the file', async () => {
    await expect(readImage(join(folder, 'none.png'), 32, 32)).rejects.toMatchObject({
      code: 'ERR_FILE_OPEN',
      message: expect.stringContaining('none.png'),
    });
    const path = join(folder, 'text.png');
    writeFileSync(path, 'hello');
    await expect(readImage(path, 32, 32)).rejects.toMatchObject({
      code: 'ERR_FILE_FORMAT',
      message: expect.stringContaining('text.png'),
    });
    await expect(decodeImage(encodePng(picture).slice(0, 40), 32, 32)).rejects.toMatchObject({
      code: 'ERR_FILE_FORMAT',
    });
    await expect(decodeImage(encodePng(picture), 0, 32)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  });
});

describe('audio files', () => {
  test('become mono at 16 kHz', async () => {
    const path = join(folder, 'tone.wav');
    const samples = Float32Array.from({ length: 9600 }, (_, i) => 0.5 * Math.sin((2 * Math.PI * 440 * i) / 48000));
    await writeWav(path, { sampleRate: 48000, samples });
    const sound = await readAudio(path);
    expect(sound.sampleRate).toBe(16000);
    expect(sound.samples.length).toBe(3200);
    for (let i = 50; i < 3150; i += 11) {
      expect(sound.samples[i]).toBeCloseTo(0.5 * Math.sin((2 * Math.PI * 440 * i) / 16000), 2);
    }
  });

  test('that are missing, foreign or too long are errors', async () => {
    const path = join(folder, 'text.wav');
    writeFileSync(path, 'hello, this is not a sound');
    await expect(readAudio(join(folder, 'none.wav'))).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    await expect(readAudio(path)).rejects.toMatchObject({
      code: 'ERR_FILE_FORMAT',
      message: expect.stringContaining('text.wav'),
    });
    const long = encodeWav({ sampleRate: 16000, samples: new Float32Array(32000) });
    await expect(decodeAudio(long, { maxSeconds: 1 })).rejects.toMatchObject({ code: 'ERR_LIMIT' });
    await expect(decodeAudio(encodeWav({ sampleRate: 16000, samples: new Float32Array(0) }))).rejects.toMatchObject({
      code: 'ERR_FILE_FORMAT',
    });
  });
});
