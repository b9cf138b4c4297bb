import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isSkip } from '../../../lib/data/own/item.js';
import { readRows } from '../../../lib/data/own/parquet.js';
import { readTask } from '../../../lib/data/own/read.js';
import { WorkerPool } from '../../../lib/threads/worker_pool.js';
import type { ParquetTasks } from '../parquet_worker.js';
import { options, parquet, png, write } from './fixtures.js';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'mot-fuzz-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('JSON lines', () => {
  test('whatever the bytes: each line is an item or a skip that names its line, and nothing is thrown', async () => {
    const good =
      '[{"text": "a caption"}, {"image": "data:image/png;base64,AAAA"}]\n{"segments": [{"audio": "a.wav"}]}\n';
    const whole = Buffer.from(good.repeat(3));
    const path = join(root, 'damaged.jsonl');
    const edits = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 12 });
    const own = options(`out: ${root}/none
sources: [{jsonl: ${path}}]`);
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        write(path, bytes);
        const task = { kind: 'records', by: 'line', source: 0, file: path, begin: 0 } as const;
        const end = bytes.length;
        const { entries, lines } = await readTask({ ...task, end, bytes: end }, own);
        const text = bytes.toString('latin1');
        expect(lines).toBe(text.split('\n').length - (text.endsWith('\n') ? 1 : 0));
        for (const entry of entries) {
          expect(entry.place.line).toBeLessThan(lines);
          if (isSkip(entry)) expect(entry.reason).not.toBe('');
          else for (const segment of entry.segments) expect(Object.keys(segment)).toHaveLength(1);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe('a damaged Parquet file', () => {
  const rows = Array.from({ length: 10 }, (_, i) => ({ caption: `c${i}`, image: { bytes: png(i), path: '' } }));
  const whole = parquet(rows);
  const footer = whole.length - 8 - whole.readUInt32LE(whole.length - 8);

  test('neither hangs nor ends its reader: it gives rows or a reason, wherever it is damaged', async () => {
    const pool = new WorkerPool<ParquetTasks>(new URL('../parquet_worker.js', import.meta.url), 1);
    const path = join(root, 'damaged.parquet');
    const outcomes = { rows: 0, reason: 0 };
    const place = fc.oneof(fc.nat(footer - 1), fc.integer({ min: footer, max: whole.length - 1 }));
    try {
      expect(await pool.run('read', write(path, whole))).toBe(10);
      await fc.assert(
        fc.asyncProperty(fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 3 }), async (edits) => {
          const bytes = Buffer.from(whole);
          for (const [at, value] of edits) bytes[at] = value;
          const outcome = await pool.run('read', write(path, bytes), { silence: 30_000 });
          outcomes[typeof outcome === 'number' ? 'rows' : 'reason']++;
        }),
        // A fixed seed: run lengths inside of a page are the library's to check, and it does not.
        { numRuns: process.env['MOT_TEST_ALL'] ? 20_000 : 500, seed: 6, endOnFailure: true },
      );
    } finally {
      await pool.close();
    }
    expect(outcomes.rows).toBeGreaterThan(0);
    expect(outcomes.reason).toBeGreaterThan(0);
  }, 600_000);

  test('whose pages promise more values than the column has is refused before they are made', async () => {
    // Sizes and counts in the header of the first page, all of them made as large as they can be.
    const found = new Set<string>();
    for (let at = 4; at < 40; at++) {
      const bytes = Buffer.from(whole);
      bytes.set([0xff, 0xff, 0xff, 0xff, 0x0f], at);
      const path = write(join(root, 'promises.parquet'), bytes);
      await readRows(path, 0, 4, [{ kind: 'text', column: 'caption' }]).catch((error: Error) =>
        found.add(error.message.replaceAll(/-?\d+/g, 'N')),
      );
    }
    expect([...found]).toEqual(
      expect.arrayContaining([
        'it has a page of N values, which cannot be',
        'it has a page of N bytes, which cannot be',
      ]),
    );
  });
});
