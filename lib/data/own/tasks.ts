import type { SourceFile } from './glob.js';
import type { Skip } from './item.js';
import type { OwnOptions, SourceOptions } from './options.js';
import { isPacked, openBytes } from './packed.js';
import { openParquet } from './parquet.js';
import { recordPieces, recordRanges, type RecordKind } from './records.js';
import { tarMembers } from './tar.js';

/** One member of a WebDataset sample. */
export interface SampleMember {
  /** Extension in lower case, without the dot. */
  extension: string;
  bytes: Uint8Array;
}

/**
 * A piece of a source that one worker reads and encodes. The list of tasks follows from the source files alone, so its
 * index says where to go on.
 */
export type Task = {
  /** Index of the source. */
  source: number;
  file: string;
  /** Bytes of the source file that it stands for. */
  bytes: number;
} & (
  | { kind: 'records'; begin: number; end: number; by: RecordKind }
  | { kind: 'piece'; content: Uint8Array; by: RecordKind; dropped: number }
  | { kind: 'files'; files: string[] }
  | { kind: 'samples'; samples: { key: string; members: SampleMember[] }[]; skips: Skip[] }
  | { kind: 'rows'; begin: number; end: number }
  | { kind: 'broken'; reason: string; line?: number }
);

/**
 * Milliseconds without a sign of life after which a task is given up: its file makes a decoder hang. A row group of a
 * Parquet file is decoded at one go, 4 MB a second at least.
 */
export function silenceOf({ kind, bytes }: Task): number {
  return kind === 'rows' ? 60_000 + bytes / 4000 : 300_000;
}

/** A source and its files. */
export interface OpenSource {
  index: number;
  options: SourceOptions;
  files: SourceFile[];
}

/** A task holds so many bytes or documents of small files and samples, at most. */
const TASK_BYTES = 1 << 20;
const TASK_DOCUMENTS = 32;

/** All tasks of a source, in the order of its files. */
export async function* planSource(source: OpenSource, limits: OwnOptions['limits']): AsyncGenerator<Task> {
  if (source.options.kind === 'text' && source.options.by === 'file') yield* planWholeFiles(source);
  else for (const file of source.files) yield* planFile(source, file, limits);
}

/** The tasks of one file. */
export async function* planFile(
  { index, options }: OpenSource,
  file: SourceFile,
  limits: OwnOptions['limits'],
): AsyncGenerator<Task> {
  const base = { source: index, file: file.path };
  try {
    if (options.kind === 'webdataset') yield* planTar(base, file, limits.file_mb * 1e6);
    else if (options.kind === 'parquet') yield* planParquet(base, file, options);
    else {
      const by = options.kind === 'text' && options.by === 'paragraph' ? 'paragraph' : 'line';
      if (isPacked(file.path)) {
        yield* planPacked(base, file, by, limits.file_mb * 1e6);
        return;
      }
      for (const range of recordRanges(file.path, file.bytes, by))
        yield { ...base, kind: 'records', ...range, by, bytes: range.end - range.begin };
    }
  } catch (error) {
    const reason = `the file cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    yield { ...base, kind: 'broken', reason, bytes: file.bytes };
  }
}

/** Pieces of a packed file of records. Where it is broken, what stands before is used, but not the record that is cut. */
async function* planPacked(
  base: { source: number; file: string },
  file: SourceFile,
  by: RecordKind,
  limit: number,
): AsyncGenerator<Task> {
  const opened = openBytes(file.path);
  let told = 0;
  const bytes = (done: number): number => {
    const more = done - told;
    told = done;
    return more;
  };
  try {
    for await (const { content, dropped } of recordPieces(opened.chunks, by, limit))
      yield { ...base, kind: 'piece', content, dropped, by, bytes: bytes(opened.bytesRead()) };
  } catch (error) {
    const reason = `it cannot be unpacked from here on: ${(error as Error).message}`;
    yield { ...base, kind: 'broken', reason, line: 0, bytes: bytes(file.bytes) };
  } finally {
    opened.close();
  }
}

function* planWholeFiles({ index, files }: OpenSource): Generator<Task> {
  let group: string[] = [];
  let bytes = 0;
  for (const [i, file] of files.entries()) {
    group.push(file.path);
    bytes += file.bytes;
    if (group.length < TASK_DOCUMENTS && bytes < TASK_BYTES && i + 1 < files.length) continue;
    yield { source: index, file: group[0]!, bytes, kind: 'files', files: group };
    group = [];
    bytes = 0;
  }
}

/** Row groups; the columns that the config names must be there. */
async function* planParquet(
  base: { source: number; file: string },
  file: SourceFile,
  options: SourceOptions,
): AsyncGenerator<Task> {
  const parquet = await openParquet(file.path);
  parquet.close();
  const missing = options.columns!.find(({ column }) => !parquet.columns.includes(column));
  if (missing !== undefined) {
    const reason = `there is no column ${missing.column}; it has ${parquet.columns.join(', ')}`;
    yield { ...base, kind: 'broken', reason, bytes: file.bytes };
    return;
  }
  let begin = 0;
  for (const rows of parquet.groups) {
    const bytes = Math.round((file.bytes * rows) / Math.max(1, parquet.rows));
    yield { ...base, kind: 'rows', begin, end: begin + rows, bytes };
    begin += rows;
  }
}

/** What a member is called by: WebDataset's key is everything up to the first dot of the base name. */
const MEMBER = /^(?:\.\/)*((?:.*\/)?[^./]+)\.([^/]+)$/s;

async function* planTar(base: { source: number; file: string }, file: SourceFile, limit: number): AsyncGenerator<Task> {
  const opened = openBytes(file.path);
  let samples: { key: string; members: SampleMember[] }[] = [];
  let skips: Skip[] = [];
  let bytes = 0;
  let told = 0;
  let current: { key: string; members: SampleMember[]; bad: boolean } | undefined;
  const finish = (): void => {
    if (current && !current.bad) samples.push({ key: current.key, members: current.members });
    current = undefined;
  };
  const task = (): Task => {
    // Packed archives do not tell how far a member reaches; the bytes read do.
    const done = Math.min(opened.bytesRead(), file.bytes);
    const made: Task = { ...base, kind: 'samples', samples, skips, bytes: done - told };
    told = done;
    samples = [];
    skips = [];
    bytes = 0;
    return made;
  };
  try {
    for await (const member of tarMembers(opened.chunks, limit)) {
      const [, key = member.name, extension = ''] = MEMBER.exec(member.name) ?? [];
      // The sample before a break may lack what would have followed.
      if (member.last && member.name === '') current = undefined;
      if (current?.key !== key) {
        finish();
        if (samples.length >= TASK_DOCUMENTS || bytes >= TASK_BYTES) yield task();
        if (!member.last) current = { key, members: [], bad: false };
      }
      if (member.reason !== undefined) {
        skips.push({ place: member.name === '' ? {} : { member: member.name }, reason: member.reason });
        if (current) current.bad = true;
      } else if (current) {
        current.members.push({ extension: extension.toLowerCase(), bytes: member.bytes! });
        bytes += member.size;
      }
    }
    finish();
    const last = task();
    yield { ...last, bytes: last.bytes + file.bytes - told };
  } finally {
    opened.close();
  }
}
