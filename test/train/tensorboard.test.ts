import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32c } from '../../lib/io/crc32c.js';
import type { StepMetrics, ValidationMetrics } from '../../lib/train/metrics.js';
import { EventFile, maskedCrc } from '../../lib/train/tensorboard.js';
import { eventFiles, readRecords, readScalars } from './event_reader.js';

let run: string;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'mot-events-'));
});
afterEach(() => rmSync(run, { recursive: true, force: true }));

const step = (n: number): StepMetrics => ({
  step: n,
  loss: 1 / n,
  losses: { text: 2 / n, image: 3 / n },
  grad_norm: 0.5,
  lr: 1e-3,
  tokens: 10,
  tokens_per_second: 5,
  elapsed: n,
  memory: 100,
});
const validation: ValidationMetrics = {
  event: 'validation',
  step: 2,
  split: 'heldout',
  loss: 4,
  losses: { text: null },
  targets: { text: 7 },
};

// RFC 3720, appendix B.4.
test.each([
  ['32 zeros', Buffer.alloc(32), 0x8a9136aa],
  ['32 ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['0 to 31', Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
  ['31 to 0', Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
  ['123456789', Buffer.from('123456789'), 0xe3069283],
  ['nothing', Buffer.alloc(0), 0],
])('CRC-32C of %s', (_, bytes, expected) => expect(crc32c(bytes)).toBe(expected));

test('the checksum of a length, as every TensorFlow file of that first event has it', () => {
  // Event of 24 bytes: 18 00 00 00 00 00 00 00 a3 7f 4b 22.
  expect(maskedCrc(Buffer.from('1800000000000000', 'hex'))).toBe(0x224b7fa3);
});

describe('event files', () => {
  test('hold every curve of every line under its tag', () => {
    const before = Date.now() / 1000;
    const file = EventFile.open(run, 0);
    file.append(step(1));
    file.append({ event: 'resumed_from', step: 1, checkpoint: 'c' });
    file.append(step(2));
    file.append(validation);
    file.sync();
    const scalars = readScalars(run);
    file.close();
    expect(scalars.filter((scalar) => scalar.step === 1).map(({ tag, value }) => [tag, value])).toEqual([
      ['train/loss', 1],
      ['train/grad_norm', 0.5],
      ['train/lr', Math.fround(1e-3)],
      ['train/tokens_per_second', 5],
      ['train/memory', 100],
      ['train/loss/text', 2],
      ['train/loss/image', 3],
    ]);
    expect(scalars.filter(({ tag }) => tag.startsWith('heldout')).map(({ tag, value }) => [tag, value])).toEqual([
      ['heldout/loss', 4],
      ['heldout/loss/text', NaN],
    ]);
    for (const { time } of scalars) expect(Math.abs(time - before)).toBeLessThan(60);
  });

  test('steps beyond one byte of a varint', () => {
    const file = EventFile.open(run, 2 ** 33);
    file.append(step(2 ** 33 + 5));
    file.close();
    expect(readScalars(run)[0]!.step).toBe(2 ** 33 + 5);
  });

  test('a resumed run has one more file, and every step once', () => {
    const first = EventFile.open(run, 0);
    for (let n = 1; n <= 5; n++) first.append(step(n));
    first.close();
    // Killed within a record.
    truncateSync(first.path, readFileSync(first.path).length - 9);
    const second = EventFile.open(run, 3);
    for (let n = 4; n <= 6; n++) second.append(step(n));
    second.close();
    expect(eventFiles(run)).toHaveLength(2);
    expect(second.path > first.path).toBe(true);
    const steps = readScalars(run).filter(({ tag }) => tag === 'train/loss');
    expect(steps.map((scalar) => scalar.step)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('a file is after the others by name, though the clock was set back', () => {
    const later = join(run, 'events.out.tfevents.9999999990.mot');
    appendFileSync(later, '');
    const { path } = EventFile.open(run, 0);
    expect(path).toBe(join(run, 'events.out.tfevents.9999999991.mot'));
  });

  test('the reader of these tests sees damage', () => {
    const file = EventFile.open(run, 0);
    file.append(step(1));
    file.close();
    const bytes = readFileSync(file.path);
    bytes[bytes.length - 6]! ^= 1;
    const damaged = join(run, 'damaged');
    appendFileSync(damaged, bytes);
    expect(() => readRecords(damaged)).toThrow(/data at/);
  });

  test('a folder that is not there, or a file that was closed, is a MotError', () => {
    expect(() => EventFile.open(join(run, 'none'), 0)).toThrow(expect.objectContaining({ code: 'ERR_FILE_WRITE' }));
    const file = EventFile.open(run, 0);
    file.close();
    file.close();
    expect(() => file.append(step(1))).toThrow(expect.objectContaining({ code: 'ERR_INTERNAL' }));
  });
});
