import { describe, expect, test } from '@jest/globals';
import { ImageTokenizer } from '../../lib/modalities/image/patch_codebook.js';
import { readPatch } from '../../lib/modalities/image/patches.js';
import { rotate } from '../../lib/modalities/rotation.js';
import { makePicture, psnr, stream } from './support.js';

const training = Array.from({ length: 300 }, (_, i) => makePicture(i));
const unseen = Array.from({ length: 40 }, (_, i) => makePicture(1000 + i));
const options = { codes: 128, patches: 6000 };
const tokenizer = ImageTokenizer.train(training, options);
const single = ImageTokenizer.train(training, { ...options, stages: 1 });

const through = (t: ImageTokenizer) => unseen.map((picture) => t.decode(t.encode(picture)));

describe('ImageTokenizer', () => {
  test('keeps pictures that it has not seen', () => {
    const one = psnr(unseen, through(single));
    const two = psnr(unseen, through(tokenizer));
    expect(one).toBeGreaterThan(20);
    expect(two).toBeGreaterThan(one + 2);
  });

  test('gains by fitting the stages together', () => {
    const apart = ImageTokenizer.train(training, { ...options, rounds: 0 });
    // On the pictures that it was fitted to: unseen ones gain only when there are many to learn from.
    const kept = (t: ImageTokenizer): number =>
      psnr(
        training,
        training.map((picture) => t.decode(t.encode(picture))),
      );
    expect(kept(tokenizer)).toBeGreaterThan(kept(apart) + 0.1);
  });

  test('finds codes that are nearly as good as the best of all pairs', () => {
    const small = ImageTokenizer.train(training, { codes: 24, patches: 3000 });
    const { dim, count } = small.grid;
    const { mean, basis, codes } = small.toTensors();
    const rotation = { mean: mean!.data, basis: basis!.data };
    const raw = new Float64Array(dim);
    const patch = new Float64Array(dim);
    const error = (first: number, second: number): number => {
      let sum = 0;
      for (let i = 0; i < dim; i++)
        sum += (patch[i]! - codes!.data[first * dim + i]! - codes!.data[second * dim + i]!) ** 2;
      return sum;
    };
    let [found, best] = [0, 0];
    for (const picture of unseen.slice(0, 5)) {
      const ids = small.encode(picture);
      for (let index = 0; index < count; index++) {
        readPatch(small.grid, picture.data, index, raw, 0);
        rotate(rotation, raw, 0, patch, 0);
        found += error(ids[2 * index]!, ids[2 * index + 1]!);
        let least = Infinity;
        for (let a = 0; a < 24; a++) for (let b = 24; b < 48; b++) least = Math.min(least, error(a, b));
        best += least;
      }
    }
    expect(found).toBeGreaterThanOrEqual(best);
    // All candidates give 1.0004; losing some of them gives 1.004.
    expect(found).toBeLessThanOrEqual(1.002 * best);
  });

  test('encodes as its rule says, patch by patch', () => {
    expect(tokenizer.size).toBe(256);
    expect(tokenizer.length).toBe(128);
    for (const [t, stages] of [[tokenizer, 2] as const, [single, 1] as const]) {
      const ids = t.encode(unseen[0]!);
      expect(ids.length).toBe(64 * stages);
      ids.forEach((id, at) => {
        const stage = at % stages;
        expect(t.rule(at)).toEqual({ begin: 128 * stage, end: 128 * (stage + 1), mayEnd: false });
        expect(id).toBeGreaterThanOrEqual(128 * stage);
        expect(id).toBeLessThan(128 * (stage + 1));
      });
      expect(t.rule(ids.length)).toEqual({ begin: 0, end: 0, mayEnd: true });
    }
    // A patch in the second row, first column depends on pixels (0 ... 3, 4 ... 7) alone.
    const changed = { ...unseen[0]!, data: unseen[0]!.data.slice() };
    for (let y = 4; y < 8; y++) for (let i = 0; i < 12; i++) changed.data[96 * y + i]! ^= 0xff;
    const before = tokenizer.encode(unseen[0]!);
    const differing = [...tokenizer.encode(changed).keys()].filter(
      (at) => tokenizer.encode(changed)[at] !== before[at],
    );
    expect(differing.length).toBeGreaterThan(0);
    for (const at of differing) expect(Math.floor(at / 2)).toBe(8);
  });

  test('decodes what is there, and rejects ids out of range', () => {
    const ids = tokenizer.encode(unseen[1]!);
    const whole = tokenizer.decode(ids);
    const half = tokenizer.decode(ids.slice(0, 64));
    expect(half.data.slice(0, 32 * 16 * 3)).toEqual(whole.data.slice(0, 32 * 16 * 3));
    expect(tokenizer.decode([...ids, ...ids])).toEqual(whole);
    expect(new Set(tokenizer.decode([]).data.slice(0, 12))).toEqual(new Set(tokenizer.decode([]).data.slice(12, 24)));
    for (const id of [-1, 256, Number.NaN]) {
      expect(() => tokenizer.decode([id])).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }));
    }
    const next = stream(9);
    const random = Array.from({ length: 128 }, () => Math.floor(256 * next()));
    expect(tokenizer.decode(random).data.length).toBe(32 * 32 * 3);
  });

  test('is the same on any number of threads', async () => {
    for (const threads of [2, 3]) {
      const same = await ImageTokenizer.trainOnThreads(training, options, threads);
      expect(same.toTensors()).toEqual(tokenizer.toTensors());
    }
  });

  test('is the same every time, and after its tensors', () => {
    const again = ImageTokenizer.train(training, options);
    const loaded = ImageTokenizer.fromTensors(tokenizer.toTensors());
    for (const picture of unseen) {
      const ids = tokenizer.encode(picture);
      expect(again.encode(picture)).toEqual(ids);
      expect(loaded.encode(picture)).toEqual(ids);
      expect(loaded.decode(ids)).toEqual(tokenizer.decode(ids));
    }
  });

  test('takes other sizes', () => {
    const pictures = Array.from({ length: 30 }, (_, i) => makePicture(i, 24));
    const large = ImageTokenizer.train(pictures, { pictureSize: 24, patchSize: 8, codes: 20, stages: 3 });
    expect(large.length).toBe(27);
    expect(large.encode(pictures[0]!).length).toBe(27);
    expect(
      psnr(
        pictures,
        pictures.map((p) => large.decode(large.encode(p))),
      ),
    ).toBeGreaterThan(15);
  });

  test('rejects pictures and files that do not fit', () => {
    const argument = expect.objectContaining({ code: 'ERR_ARGUMENT' });
    expect(() => tokenizer.encode(makePicture(0, 16))).toThrow(argument);
    expect(() => tokenizer.encode({ width: 32, height: 32, data: new Uint8Array(3) })).toThrow(argument);
    expect(() => ImageTokenizer.train([], options)).toThrow(argument);
    expect(() => ImageTokenizer.train(training, { ...options, patchSize: 5 })).toThrow(argument);
    const tensors = tokenizer.toTensors();
    const format = expect.objectContaining({ code: 'ERR_FILE_FORMAT' });
    expect(() => ImageTokenizer.fromTensors({ ...tensors, mean: { shape: [47], data: new Float32Array(47) } })).toThrow(
      format,
    );
    expect(() => ImageTokenizer.fromTensors({ grid: tensors['grid']! })).toThrow(format);
    const codes = { shape: tensors['codes']!.shape, data: tensors['codes']!.data.slice().fill(Number.NaN, 5, 6) };
    expect(() => ImageTokenizer.fromTensors({ ...tensors, codes })).toThrow(
      expect.objectContaining({ code: 'ERR_NOT_FINITE' }),
    );
  });
});
