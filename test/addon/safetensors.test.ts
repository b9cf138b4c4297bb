import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { MotError } from '../../lib/errors.js';
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-safetensors-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TENSORS = {
  f: { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  i: Int32Array.of(-1, 2),
  l: BigInt64Array.of(-5n, 2n ** 60n),
  d: Float64Array.of(Math.PI),
  'b "ü" \n': { shape: [], data: Uint8Array.of(7) },
  empty: { shape: [0, 9], data: new Float32Array(0) },
};

test('what is written is read', async () => {
  const path = join(folder, 'all.safetensors');
  const checksum = await writeSafetensors(path, TENSORS, { __proto__x: '1', 'k ü': 'v\n' });
  expect(checksum).toBe(crc32(readFileSync(path)).toString(16).padStart(8, '0'));
  using file = await SafetensorsFile.open(path);
  expect(file.tensors.map(({ name }) => name)).toEqual(Object.keys(TENSORS));
  expect(file.info('f')).toEqual({ name: 'f', dtype: 'F32', shape: [2, 3] });
  expect(file.read('f')).toEqual(TENSORS.f.data);
  expect(file.readRange('f', 2, 4)).toEqual(Float32Array.of(3, 4));
  expect(file.read('i')).toEqual(TENSORS.i);
  expect(file.read('l')).toEqual(TENSORS.l);
  expect(file.read('d')).toEqual(TENSORS.d);
  expect(file.read('b "ü" \n')).toEqual(Uint8Array.of(7));
  expect(file.read('empty')).toHaveLength(0);
  expect({ ...file.metadata }).toEqual({ __proto__x: '1', 'k ü': 'v\n' });
  expect(() => file.read('none')).toThrow(/no tensor none/);
  expect(() => file.readRange('f', 4, 7)).toThrow(/from 4 to 6/);
  file.close();
  file.close();
  expect(() => file.read('f')).toThrow(/closed/);
});

test('BF16 becomes Float32Array; a metadata key __proto__ is a key', async () => {
  const path = join(folder, 'bf16.safetensors');
  const header = JSON.stringify({ a: { dtype: 'BF16', shape: [2], data_offsets: [0, 4] } });
  const text = `{"__metadata__":{"__proto__":"x"},${header.slice(1)}`;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, Buffer.from(text), Buffer.from([0x80, 0x3f, 0x20, 0xc0])]));
  using file = await SafetensorsFile.open(path);
  expect(file.read('a')).toEqual(Float32Array.of(1, -2.5));
  expect(Object.keys(file.metadata)).toEqual(['__proto__']);
});

test('no change of a valid file crashes the process: it opens and reads, or it is a MotError', async () => {
  const path = join(folder, 'mutated.safetensors');
  await writeSafetensors(path, TENSORS, { k: 'v' });
  const original = readFileSync(path);
  const headerEnd = 8 + Number(original.readBigUInt64LE(0));
  const outcomes = { opened: 0, refused: 0 };
  const position = fc.integer({ min: 0, max: headerEnd + 4 });
  const mutation = fc.oneof(
    { weight: 6, arbitrary: fc.record({ at: position, byte: fc.integer({ min: 0, max: 255 }) }) },
    // Characters that keep it JSON more often: digits, brackets, quotes.
    {
      weight: 6,
      arbitrary: fc.record({ at: position, byte: fc.constantFrom(...Buffer.from('0123456789[]{}",:-.eE \\')) }),
    },
    { weight: 1, arbitrary: fc.record({ cut: fc.integer({ min: 0, max: original.length }) }) },
    { weight: 1, arbitrary: fc.record({ insert: position, bytes: fc.uint8Array({ maxLength: 12 }) }) },
    { weight: 1, arbitrary: fc.record({ remove: position, count: fc.integer({ min: 1, max: 40 }) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 4 }), async (mutations) => {
      let bytes = Buffer.from(original);
      for (const m of mutations) {
        if ('byte' in m && m.at < bytes.length) bytes[m.at] = m.byte;
        else if ('cut' in m) bytes = bytes.subarray(0, m.cut);
        else if ('insert' in m) bytes = Buffer.concat([bytes.subarray(0, m.insert), m.bytes, bytes.subarray(m.insert)]);
        else if ('remove' in m)
          bytes = Buffer.concat([bytes.subarray(0, m.remove), bytes.subarray(m.remove + m.count)]);
      }
      writeFileSync(path, bytes);
      try {
        using file = await SafetensorsFile.open(path);
        let data = 0;
        for (const { name, shape, dtype } of file.tensors) {
          if (!['F32', 'I32', 'U8', 'I64', 'F64', 'BF16', 'BOOL'].includes(dtype)) return;
          const values = file.read(name);
          expect(values.length).toBe(shape.reduce((count, size) => count * size, 1));
          data += values.length;
        }
        expect(data).toBeLessThanOrEqual(bytes.length);
        outcomes.opened++;
      } catch (error) {
        if (!(error instanceof MotError)) throw error;
        expect(error.code).toBe('ERR_FILE_FORMAT');
        expect(error.message).toContain(path);
        outcomes.refused++;
      }
    }),
    { numRuns: 1500 },
  );
  // The property would hold for a reader that refuses, or accepts, everything.
  expect(outcomes.opened).toBeGreaterThan(10);
  expect(outcomes.refused).toBeGreaterThan(100);
});

test('wrong arguments are errors', async () => {
  const path = join(folder, 'x.safetensors');
  const data = Float32Array.of(1);
  await expect(writeSafetensors(path, [{ name: 'a', data: [1] as never }])).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
  });
  await expect(writeSafetensors(path, [{ name: 'a', data, shape: [2] }])).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
  });
  await expect(writeSafetensors(path, { a: { data, shape: [-1] } })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  const twice = [
    { name: 'a', data },
    { name: 'a', data },
  ];
  await expect(writeSafetensors(path, twice)).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  await expect(writeSafetensors(path, {}, { k: 1 as never })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
  await expect(writeSafetensors(join(folder, 'no', 'x'), {})).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
  await expect(SafetensorsFile.open(join(folder, 'none'))).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
  await expect(SafetensorsFile.open(folder)).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
});
