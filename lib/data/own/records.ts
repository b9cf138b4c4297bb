import { closeSync, openSync, readSync } from 'node:fs';

/*
 * Text files as records, cut into ranges that workers read on their own. A record is a line, or a paragraph: what stands
 * between lines that are empty but for white space.
 */

/** How records are told apart. */
export type RecordKind = 'line' | 'paragraph';

/** Bytes of a range; the last record of it may reach further. */
const RANGE = 128 * 1024;
const PIECE = 64 * 1024;

const NEWLINE = 10;
/** The blank lines between paragraphs; in Latin-1, where a byte is a character. */
const BLANK_LINES = /\n(?:[ \t\r\f\v]*\n)+/;

/** Ranges [begin, end) of a file of `size` bytes, each of whole records. */
export function* recordRanges(path: string, size: number, kind: RecordKind): Generator<{ begin: number; end: number }> {
  const fd = openSync(path, 'r');
  try {
    for (let begin = 0; begin < size;) {
      const end = begin + RANGE >= size ? size : recordEnd(fd, begin + RANGE, size, kind);
      yield { begin, end };
      begin = end;
    }
  } finally {
    closeSync(fd);
  }
}

/** Where the record that holds the byte before `from` ends, the separator included. */
function recordEnd(fd: number, from: number, size: number, kind: RecordKind): number {
  const piece = Buffer.allocUnsafe(PIECE);
  // Paragraphs: pieces overlap, so that a separator across a joint is seen.
  const overlap = kind === 'line' ? 0 : 1024;
  for (let at = from - 1; at < size; at += PIECE - overlap) {
    const count = readSync(fd, piece, 0, PIECE, at);
    if (count <= 0) break;
    const bytes = piece.subarray(0, count);
    if (kind === 'line') {
      const newline = bytes.indexOf(NEWLINE);
      if (newline >= 0) return at + newline + 1;
    } else {
      const blank = BLANK_LINES.exec(bytes.toString('latin1'));
      if (blank) return at + blank.index + blank[0].length;
    }
    if (at + count >= size) break;
  }
  return size;
}

/** One record: its bytes, or undefined where it is longer than the limit; and its first line, from 0. */
export interface TextRecord {
  bytes: Uint8Array | undefined;
  line: number;
}

/** The records of a range, and its number of lines. */
export interface RangeRecords {
  records: TextRecord[];
  lines: number;
}

/** Reads the range of a file; a record of more than `limit` bytes is not kept in memory. */
export function readRecords(path: string, begin: number, end: number, kind: RecordKind, limit: number): RangeRecords {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.allocUnsafe(Math.min(end - begin, RANGE + limit));
    let length = 0;
    while (length < bytes.length) {
      const count = readSync(fd, bytes, length, bytes.length - length, begin + length);
      if (count <= 0) break;
      length += count;
    }
    const { records, lines } = splitRecords(bytes.subarray(0, length), kind, limit);
    if (begin + length < end) {
      // The last record goes on beyond what was read, and so beyond the limit.
      records.at(-1)!.bytes = undefined;
      const counted = kind === 'line' ? lines - 1 : lines;
      return { records, lines: counted + countNewlines(fd, begin + length, end) };
    }
    return { records, lines };
  } finally {
    closeSync(fd);
  }
}

function splitRecords(bytes: Buffer, kind: RecordKind, limit: number): RangeRecords {
  const records: TextRecord[] = [];
  let line = 0;
  const add = (begin: number, end: number): void => {
    const record = bytes.subarray(begin, end);
    records.push({ bytes: record.length > limit ? undefined : record, line });
  };
  if (kind === 'line') {
    for (let at = 0; at < bytes.length; line++) {
      const newline = bytes.indexOf(NEWLINE, at);
      const end = newline < 0 ? bytes.length : newline;
      add(at, end);
      at = end + 1;
    }
    return { records, lines: line };
  }
  let at = 0;
  for (const blank of [...bytes.toString('latin1').matchAll(new RegExp(BLANK_LINES, 'g')), undefined]) {
    const end = blank?.index ?? bytes.length;
    add(at, end);
    const next = blank ? end + blank[0].length : end;
    line += newlinesIn(bytes.subarray(at, next));
    at = next;
  }
  return { records, lines: line };
}

function newlinesIn(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

function countNewlines(fd: number, begin: number, end: number): number {
  const piece = Buffer.allocUnsafe(PIECE);
  let lines = 0;
  for (let at = begin; at < end;) {
    const count = readSync(fd, piece, 0, Math.min(PIECE, end - at), at);
    if (count <= 0) break;
    lines += newlinesIn(piece.subarray(0, count));
    at += count;
  }
  return lines;
}
