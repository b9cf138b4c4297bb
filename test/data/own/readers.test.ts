import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { findFiles } from '../../../lib/data/own/glob.js';
import { isSkip, ItemHash } from '../../../lib/data/own/item.js';
import { openBytes } from '../../../lib/data/own/packed.js';
import { openParquet, readRows } from '../../../lib/data/own/parquet.js';
import {
  readRecords,
  recordPieces,
  recordRanges,
  splitRecords,
  type RecordKind,
} from '../../../lib/data/own/records.js';
import { tarMembers, type TarMember } from '../../../lib/data/own/tar.js';
import { decodeAudio, decodeImage } from '../../../lib/media/decode.js';
import { parquet, png, tar, wav, write } from './fixtures.js';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'mot-readers-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

async function membersOf(bytes: Uint8Array, limit = 1e6, piece = 700): Promise<TarMember[]> {
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
  }
  const members: TarMember[] = [];
  for await (const member of tarMembers(chunks(), limit)) members.push(member);
  return members;
}

describe('records', () => {
  test.each(['line', 'paragraph'] as RecordKind[])('ranges of %ss hold every record once, with its line', (kind) => {
    const separator = kind === 'line' ? '\n' : '\n \n\n';
    const records = Array.from({ length: 3000 }, (_, i) => `record ${i} ${'x'.repeat((i * 7919) % 400)}`);
    const path = write(join(root, `${kind}.txt`), records.join(separator));
    const size = readFileSync(path).length;
    const found: string[] = [];
    const lines: number[] = [];
    let base = 0;
    let end = 0;
    for (const range of recordRanges(path, size, kind)) {
      expect(range.begin).toBe(end);
      end = range.end;
      const part = readRecords(path, range.begin, range.end, kind, 1000);
      for (const { bytes, line } of part.records) {
        const text = Buffer.from(bytes!).toString();
        if (text.trim() === '') continue;
        found.push(text);
        lines.push(base + line);
      }
      base += part.lines;
    }
    expect(end).toBe(size);
    expect(found).toEqual(records);
    expect(lines).toEqual(records.map((_, i) => i * separator.split('\n').length - i));
  });

  test('a record beyond the limit is left out and its lines are counted', () => {
    const path = write(join(root, 'long.txt'), `short\n${'y'.repeat(500_000)}\nafter\n`);
    const size = readFileSync(path).length;
    const ranges = [...recordRanges(path, size, 'line')];
    const [first, second] = ranges.map(({ begin, end }) => readRecords(path, begin, end, 'line', 1000));
    expect(first!.records.map(({ bytes, line }) => [bytes?.length, line])).toEqual([
      [5, 0],
      [undefined, 1],
    ]);
    expect(first!.lines).toBe(2);
    expect(second!.records).toHaveLength(1);
  });
});

describe('packed files', () => {
  async function piecesOf(chunks: AsyncIterable<Uint8Array>, kind: RecordKind, limit: number) {
    const records: { text: string | undefined; line: number }[] = [];
    let lines = 0;
    let largest = 0;
    let failure: unknown;
    try {
      for await (const { content, dropped } of recordPieces(chunks, kind, limit)) {
        const part = splitRecords(content, kind, limit);
        for (const { bytes, line } of part.records)
          if (bytes === undefined || bytes.toString().trim() !== '')
            records.push({ text: bytes && Buffer.from(bytes).toString(), line: lines + line });
        lines += part.lines + dropped;
        largest = Math.max(largest, content.length);
      }
    } catch (error) {
      failure = error;
    }
    return { records, largest, failure };
  }

  test.each(['line', 'paragraph'] as RecordKind[])(
    'pieces of %ss hold what the ranges of the same file do',
    async (kind) => {
      const separator = kind === 'line' ? '\n' : '\n \n\n';
      const long = Array.from({ length: 90_000 }, (_, i) => `long ${i}`).join(kind === 'line' ? ' ' : '\n');
      const texts = Array.from({ length: 3000 }, (_, i) =>
        i === 1500 ? long : `record ${i} ${'x'.repeat((i * 7919) % 400)}`,
      );
      const plain = write(join(root, `packed-${kind}.txt`), texts.join(separator));
      const packed = write(`${plain}.gz`, gzipSync(readFileSync(plain)));
      const expected: { text: string | undefined; line: number }[] = [];
      let lines = 0;
      for (const { begin, end } of recordRanges(plain, readFileSync(plain).length, kind)) {
        const part = readRecords(plain, begin, end, kind, 1000);
        for (const { bytes, line } of part.records)
          if (bytes === undefined || bytes.length > 0)
            expected.push({ text: bytes && Buffer.from(bytes).toString(), line: lines + line });
        lines += part.lines;
      }
      expect(expected.filter(({ text }) => text === undefined)).toHaveLength(1);
      const { records, largest, failure } = await piecesOf(openBytes(packed).chunks, kind, 1000);
      expect(failure).toBeUndefined();
      expect(records).toEqual(expected);
      expect(largest).toBeLessThan(1e6);
    },
  );

  test('a file that is cut gives the records before the break, every time the same', async () => {
    const text = Array.from({ length: 40_000 }, (_, i) => `line ${i} ${(i * 7919) % 10007}`).join('\n');
    const whole = gzipSync(text);
    const path = write(join(root, 'cut.txt.gz'), whole.subarray(0, whole.length * 0.7));
    const { records, failure } = await piecesOf(openBytes(path).chunks, 'line', 1000);
    expect(failure).toMatchObject({ message: 'unexpected end of file' });
    expect(records.length).toBeGreaterThan(20_000);
    expect(records.map((record) => record.text)).toEqual(text.split('\n').slice(0, records.length));
    expect((await piecesOf(openBytes(path).chunks, 'line', 1000)).records).toEqual(records);
  });

  test('no gzip, and no file', async () => {
    const path = write(join(root, 'no.gz'), 'plain');
    expect((await piecesOf(openBytes(path).chunks, 'line', 9)).failure).toMatchObject({ code: 'Z_DATA_ERROR' });
    expect((await piecesOf(openBytes(`${path}.gz`).chunks, 'line', 9)).failure).toMatchObject({ code: 'ENOENT' });
  });
});

describe('tar', () => {
  test('reads long names of GNU and pax, and pieces of any size', async () => {
    const long = `${'folder/'.repeat(30)}a.txt`;
    const pax = (fields: string): string => `${fields.length + 4} ${fields}\n`;
    const bytes = tar([
      { name: '././@LongLink', content: `${long}\0`, type: 'L' },
      { name: 'cut', content: 'gnu' },
      { name: 'PaxHeader', content: pax('path=pax/name.txt'), type: 'x' },
      { name: 'short', content: 'pax' },
      { name: 'folder/', type: '5' },
      { name: 'plain.txt', content: 'z'.repeat(1500) },
    ]);
    for (const piece of [1, 511, 512, 100_000]) {
      const members = await membersOf(bytes, 1e6, piece);
      expect(members.map(({ name, size }) => [name, size])).toEqual([
        [long, 3],
        ['pax/name.txt', 3],
        ['plain.txt', 1500],
      ]);
      expect(Buffer.from(members[1]!.bytes!).toString()).toBe('pax');
    }
  });

  test('whatever the bytes: ends, keeps to the limit, throws nothing', async () => {
    const whole = tar([
      { name: 'a.txt', content: 'a'.repeat(600) },
      { name: 'b.txt', content: 'b' },
    ]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 12 }), async (edits) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of edits) bytes[at] = value;
        for (const member of await membersOf(bytes, 1000)) expect(member.bytes?.length ?? 0).toBeLessThanOrEqual(1000);
      }),
      { numRuns: 200 },
    );
  });
});

describe('parquet', () => {
  const rows = Array.from({ length: 10 }, (_, i) => ({ caption: `c${i}`, image: { bytes: png(i), path: '' } }));
  const columns = [
    { kind: 'text', column: 'caption' },
    { kind: 'image', column: 'image' },
  ] as const;

  test('reads bytes and texts by row group', async () => {
    const path = write(join(root, 'a.parquet'), parquet(rows));
    const file = await openParquet(path);
    file.close();
    expect([file.columns, file.rows, file.groups]).toEqual([['caption', 'image'], 10, [4, 4, 2]]);
    const items = await readRows(path, 4, 8, [...columns]);
    expect(items.map((item) => (isSkip(item) ? item : item.segments))).toEqual(
      [4, 5, 6, 7].map((i) => [{ text: `c${i}` }, { image: { bytes: png(i) } }]),
    );
  });
});

describe('media', () => {
  test('an SVG fetches and reads nothing', async () => {
    let requests = 0;
    const server = createServer((_, response) => {
      requests++;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const red = write(join(root, 'red.png'), png(1));
    const svg = (href: string): Buffer =>
      Buffer.from(
        `<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file://${red}">]>` +
          `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="8" height="8">` +
          `<image xlink:href="${href}" width="8" height="8"/></svg>`,
      );
    for (const href of [`http://127.0.0.1:${port}/a.png`, `file://${red}`, red]) {
      const { data } = await decodeImage(svg(href), 8, 8);
      expect(new Set(data)).toEqual(new Set([255]));
    }
    server.close();
    expect(requests).toBe(0);
  });

  test('limits of pixels and seconds', async () => {
    await expect(decodeImage(png(1, 40, 30), 8, 8, { maxPixels: 1000 })).rejects.toMatchObject({
      code: 'ERR_FILE_FORMAT',
    });
    await expect(decodeAudio(wav(1, 2), { maxSeconds: 1 })).rejects.toMatchObject({ code: 'ERR_LIMIT' });
    expect((await decodeAudio(wav(1, 2))).samples).toHaveLength(32000);
  });
});

describe('items', () => {
  test('equal content has equal draws, other content and seeds others; shares come out', () => {
    const item = (i: number) => ({ place: { line: i }, segments: [{ text: `text ${i}` }] });
    expect(new ItemHash({ ...item(3), place: {} }, 0).split).toBe(new ItemHash(item(3), 0).split);
    expect(new ItemHash(item(3), 1).split).not.toBe(new ItemHash(item(3), 0).split);
    const draws = Array.from({ length: 4000 }, (_, i) => new ItemHash(item(i), 0).split);
    expect(draws.filter((draw) => draw < 0.1).length / 4000).toBeCloseTo(0.1, 1);
    const keyed = [1, 2].map((i) => new ItemHash({ ...item(i), key: 'same' }, 0));
    expect(keyed[0]!.split).toBe(keyed[1]!.split);
    expect(keyed[0]!.copies).not.toBe(keyed[1]!.copies);
  });
});

describe('patterns', () => {
  test('stars, double stars, braces', () => {
    for (const name of ['g/a-00.tar', 'g/a-01.tar', 'g/deep/er/a-02.tar', 'g/.hidden.tar', 'g/b[1].txt'])
      write(join(root, name), 'x');
    const names = (pattern: string): string[] =>
      findFiles(join(root, pattern)).map(({ path }) => path.slice(root.length + 1));
    expect(names('g/*.tar')).toEqual(['g/a-00.tar', 'g/a-01.tar']);
    expect(names('g/**/*.tar')).toEqual(['g/a-00.tar', 'g/a-01.tar', 'g/deep/er/a-02.tar']);
    expect(names('g/a-{00..07}.tar')).toEqual(['g/a-00.tar', 'g/a-01.tar']);
    expect(names('g/{b[1].txt,none}')).toEqual(['g/b[1].txt']);
    expect(names('none/*')).toEqual([]);
  });
});
