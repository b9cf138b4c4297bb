import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A scalar as an event file holds it. */
export interface ReadScalar {
  tag: string;
  step: number;
  value: number;
  time: number;
}

type Field = { field: number; wire: number; number: number; bytes: Buffer };

/** The fields of one protocol buffer message. */
function* fieldsOf(bytes: Buffer): Generator<Field> {
  let at = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = readVarint();
    const wire = key & 7;
    const field: Field = { field: key >>> 3, wire, number: 0, bytes: Buffer.alloc(0) };
    if (wire === 0) field.number = readVarint();
    else if (wire === 1) field.number = bytes.readDoubleLE((at += 8) - 8);
    else if (wire === 5) field.number = bytes.readFloatLE((at += 4) - 4);
    else if (wire === 2) {
      const length = readVarint();
      if (at + length > bytes.length) throw new Error(`a field of ${length} bytes in a message of ${bytes.length}`);
      field.bytes = bytes.subarray(at, (at += length));
    } else throw new Error(`wire type ${wire}`);
    yield field;
  }
}

/** CRC-32C bit by bit, masked as TFRecord does; on purpose not the code under test. */
function masked(bytes: Buffer): number {
  let crc = -1;
  for (const byte of bytes)
    for (let bit = 0; bit < 8; bit++) crc = ((crc >>> 1) ^ (((crc ^ (byte >>> bit)) & 1) * 0x82f63b78)) | 0;
  const plain = BigInt(~crc >>> 0);
  return Number(((plain >> 15n) + ((plain << 17n) % (1n << 32n)) + 0xa282ead8n) % (1n << 32n));
}

/** The records of an event file, every checksum tested; a record cut off at the end is left out. */
export function readRecords(path: string): Buffer[] {
  const file = readFileSync(path);
  const records: Buffer[] = [];
  for (let at = 0; at + 12 <= file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    if (file.readUInt32LE(at + 8) !== masked(file.subarray(at, at + 8))) throw new Error(`length at ${at} of ${path}`);
    if (at + length + 16 > file.length) break;
    const data = file.subarray(at + 12, at + 12 + length);
    if (file.readUInt32LE(at + 12 + length) !== masked(data)) throw new Error(`data at ${at} of ${path}`);
    records.push(data);
    at += length + 16;
  }
  return records;
}

/** Event files of a folder in TensorBoard's order. */
export function eventFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.includes('tfevents'))
    .sort();
}

/** What TensorBoard shows of a folder: a start of step n takes the place of what was there from n on. */
export function readScalars(folder: string): ReadScalar[] {
  let scalars: ReadScalar[] = [];
  for (const name of eventFiles(folder)) {
    const records = readRecords(join(folder, name));
    const version = [...fieldsOf(records[0]!)].find(({ field }) => field === 3)?.bytes.toString();
    if (version !== 'brain.Event:2') throw new Error(`${name} begins with ${version}`);
    for (const record of records.slice(1)) {
      const event = { time: 0, step: 0 };
      const values: Buffer[] = [];
      for (const { field, number, bytes } of fieldsOf(record)) {
        if (field === 1) event.time = number;
        else if (field === 2) event.step = number;
        else if (field === 5) values.push(...[...fieldsOf(bytes)].map((value) => value.bytes));
        else if (field === 7) scalars = scalars.filter(({ step }) => step < event.step);
      }
      for (const value of values) {
        const parts = [...fieldsOf(value)];
        scalars.push({
          tag: parts.find(({ field }) => field === 1)!.bytes.toString(),
          value: parts.find(({ field, wire }) => field === 2 && wire === 5)!.number,
          ...event,
        });
      }
    }
  }
  return scalars;
}
