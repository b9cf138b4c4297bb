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
/** Bytes of blank lines that are seen across a joint. */
const SEPARATOR = 1024;
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
  const overlap = kind === 'line' ? 0 : SEPARATOR;
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

/** Some records of a stream. */
export interface RecordPiece {
  /** Whole records; the last one, where it is longer than the limit, only as far as one byte beyond that. */
  content: Buffer;
  /** Newlines of what was left out of it. */
  dropped: number;
}

/**
 * A stream as pieces of whole records, for files that can only be read from the beginning; `splitRecords` takes them. No
 * more than a piece and a record of `limit` bytes is held in memory. An error of the stream comes after the pieces before.
 */
export async function* recordPieces(
  chunks: AsyncIterable<Uint8Array>,
  kind: RecordKind,
  limit: number,
): AsyncGenerator<RecordPiece> {
  let held = Buffer.alloc(0);
  let fresh: Uint8Array[] = [];
  let freshBytes = 0;
  /** Where to search in `held` for the end of a record: there is none before. */
  let from = 0;
  /** Newlines left out of the record that is held, which is too long. */
  let dropped = 0;
  const takeFresh = (): void => {
    held = Buffer.concat([held, ...fresh]);
    fresh = [];
    freshBytes = 0;
  };
  const pieceEnd = (): number => {
    if (kind === 'line') return held.lastIndexOf(NEWLINE) + 1;
    const text = held.toString('latin1', from);
    const ends = [...text.matchAll(new RegExp(BLANK_LINES, 'g'))]
      .map((blank) => blank.index + blank[0].length)
      // Blank lines may go on in the next chunk.
      .filter((end) => /\S/.test(text.slice(end, end + SEPARATOR)));
    // Only the last record of a piece may have dropped lines: the lines of others behind it would be wrong.
    const end = dropped > 0 ? ends[0] : ends.at(-1);
    return end === undefined ? 0 : from + end;
  };
  const take = (end: number): RecordPiece => {
    const piece = { content: held.subarray(0, end), dropped };
    held = Buffer.from(held.subarray(end));
    // Behind a record with dropped lines nothing has been searched yet.
    from = dropped > 0 ? 0 : Math.max(0, held.length - SEPARATOR);
    dropped = 0;
    return piece;
  };
  let failure: { error: unknown } | undefined;
  try {
    for await (const chunk of chunks) {
      fresh.push(chunk);
      freshBytes += chunk.length;
      // As much again as is held, so that a long record is not copied for every chunk.
      if (freshBytes < Math.max(RANGE, held.length)) continue;
      takeFresh();
      const end = pieceEnd();
      if (end > 0) {
        yield take(end);
        continue;
      }
      if (held.length > limit + 2 * SEPARATOR) {
        // Enough to see that it is too long, and the end, where a separator may begin. The byte between them keeps a
        // separator from coming about.
        const keep = held.length - SEPARATOR;
        dropped += newlinesIn(held.subarray(limit + 1, keep));
        held = Buffer.concat([held.subarray(0, limit + 1), Buffer.from('.'), held.subarray(keep)]);
      }
      from = Math.max(0, held.length - SEPARATOR);
    }
  } catch (error) {
    failure = { error };
  }
  takeFresh();
  if (dropped > 0 || failure) {
    const end = pieceEnd();
    if (end > 0) yield take(end);
  }
  if (failure) {
    // What is left may go on beyond the break.
    const end = pieceEnd();
    if (end > 0) yield take(end);
    throw failure.error;
  }
  if (held.length > 0) yield take(held.length);
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

/** The records of bytes that begin and end with one. */
export function splitRecords(bytes: Buffer, kind: RecordKind, limit: number): RangeRecords {
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
