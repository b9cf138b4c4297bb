import { closeSync, fsyncSync, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { MotError } from '../errors.js';
import { crc32c } from '../io/crc32c.js';
import { fileError } from '../io/files.js';
import { isStep, type MetricsLine } from './metrics.js';

const FILE = /^events\.out\.tfevents\.(\d+)\.mot$/;

/** Keys of a step's line that are no curve: they count, or are the axis. */
const NO_CURVE = new Set(['step', 'tokens', 'elapsed']);

/** One number of a step, under the name by which TensorBoard lists it. */
export interface Scalar {
  tag: string;
  value: number;
}

/**
 * The curves of a line of metrics: `train/loss`, `train/loss/text`, `train/lr`, `train/grad_norm`,
 * `train/tokens_per_second`, `train/memory`; `validation/loss` and so on for other splits. What was not finite is NaN,
 * which TensorBoard marks.
 */
export function scalarsOf(line: MetricsLine): Scalar[] {
  if (!isStep(line) && line.event !== 'validation') return [];
  const group = isStep(line) ? 'train' : line.split;
  const scalars: Scalar[] = [];
  for (const [key, value] of Object.entries(line)) {
    if (NO_CURVE.has(key)) continue;
    if (typeof value === 'number' || value === null) scalars.push({ tag: `${group}/${key}`, value: value ?? NaN });
  }
  for (const [modality, value] of Object.entries(line.losses))
    scalars.push({ tag: `${group}/loss/${modality}`, value: value ?? NaN });
  return scalars;
}

/**
 * A TensorBoard event file in a run's folder. Every opening makes a new file, after the older ones by name; its first
 * events say from which step on it takes their place, so that what a killed run did after its last checkpoint is not
 * shown twice.
 */
export class EventFile {
  private constructor(
    readonly path: string,
    private fd: number,
  ) {}

  /**
   * @param folder An existing folder; TensorBoard shows it as one run.
   * @param step The step that training goes on from: events of later steps in older files no longer count.
   * @throws MotError ERR_FILE_WRITE.
   */
  static open(folder: string, step: number): EventFile {
    let path = folder;
    try {
      // TensorBoard reads in the order of names, whatever the clock was set to meanwhile.
      const others = readdirSync(folder).map((name) => Number(FILE.exec(name)?.[1] ?? 0));
      const seconds = Math.max(Math.floor(Date.now() / 1000), ...others.map((other) => other + 1));
      path = join(folder, `events.out.tfevents.${String(seconds).padStart(10, '0')}.mot`);
      const file = new EventFile(path, openSync(path, 'wx'));
      file.write([text(3, 'brain.Event:2')]);
      // Without this, TensorBoard would take a step smaller than one before for a mistake of the clock.
      file.write([varint(2, step + 1), message(7, [varint(1, SESSION_START)])]);
      return file;
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${path}`, cause);
    }
  }

  /** Writes the curves of a line; lines without any are left out. MotError ERR_FILE_WRITE. */
  append(line: MetricsLine): void {
    const scalars = scalarsOf(line);
    if (scalars.length === 0) return;
    const values = scalars.map(({ tag, value }) => message(1, [text(1, tag), float(2, value)]));
    this.write([varint(2, line.step), message(5, values)]);
  }

  /** What was written is on the disk when it returns. MotError ERR_FILE_WRITE. */
  sync(): void {
    try {
      fsyncSync(this.fd);
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${this.path}`, cause);
    }
  }

  close(): void {
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }

  /** One event, with the time of now, as a TFRecord: length, its checksum, data, its checksum. */
  private write(fields: Uint8Array[]): void {
    const data = Buffer.concat([double(1, Date.now() / 1000), ...fields]);
    const record = Buffer.alloc(data.length + 16);
    record.writeBigUInt64LE(BigInt(data.length), 0);
    record.writeUInt32LE(maskedCrc(record.subarray(0, 8)), 8);
    data.copy(record, 12);
    record.writeUInt32LE(maskedCrc(data), 12 + data.length);
    try {
      if (this.fd < 0) throw new MotError('ERR_INTERNAL', `${this.path} is closed.`);
      for (let written = 0; written < record.length;) written += writeSync(this.fd, record, written);
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${this.path}`, cause);
    }
  }
}

/** As TFRecord stores a checksum: rotated and shifted, so that the checksum of data with checksums is a good one. */
export function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

// The few field kinds of protocol buffers that events need. Event: wall_time 1, step 2, file_version 3, summary 5,
// session_log 7. Summary: value 1; its tag 1, simple_value 2. SessionLog: status 1.
const SESSION_START = 1;

function key(field: number, wire: number): number {
  return (field << 3) | wire;
}

function varintBytes(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

function varint(field: number, value: number): Uint8Array {
  return Uint8Array.from([key(field, 0), ...varintBytes(value)]);
}

function double(field: number, value: number): Uint8Array {
  const bytes = Buffer.alloc(9, key(field, 1));
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

function float(field: number, value: number): Uint8Array {
  const bytes = Buffer.alloc(5, key(field, 5));
  bytes.writeFloatLE(value, 1);
  return bytes;
}

function text(field: number, value: string): Uint8Array {
  return delimited(field, Buffer.from(value));
}

function message(field: number, fields: Uint8Array[]): Uint8Array {
  return delimited(field, Buffer.concat(fields));
}

function delimited(field: number, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.from([key(field, 2), ...varintBytes(bytes.length)]), bytes]);
}
