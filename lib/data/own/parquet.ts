import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import {
  parquetMetadataAsync,
  parquetReadObjects,
  type AsyncBuffer,
  type ColumnChunk,
  type FileMetaData,
  type RowGroup,
} from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { compressors } from 'hyparquet-compressors';
import type { Item, Media, RawSegment, Skip } from './item.js';
import type { SourceOptions } from './options.js';

/** Bytes of the metadata of a file, and of a row group unpacked, and its rows, at most. */
const LARGEST_METADATA = 256e6;
const LARGEST_GROUP = 2e9;
const MOST_ROWS = 1e7;

/** A Parquet file that is open. */
export interface ParquetFile {
  /** Names at the top level. */
  columns: string[];
  rows: number;
  /** Rows of each row group. */
  groups: number[];
  metadata: FileMetaData;
  buffer: AsyncBuffer;
  close(): void;
}

/** Opens a file and reads its metadata. Throws an Error that says what is wrong. */
export async function openParquet(path: string): Promise<ParquetFile> {
  const fd = openSync(path, 'r');
  try {
    const { size } = fstatSync(fd);
    const buffer: AsyncBuffer = {
      byteLength: size,
      slice(start, end = size) {
        if (!(start >= 0 && end <= size && start <= end)) throw new Error('it points beyond its end');
        const bytes = new Uint8Array(end - start);
        for (let at = 0; at < bytes.length;) {
          const count = readSync(fd, bytes, at, bytes.length - at, start + at);
          if (count <= 0) throw new Error('it is cut short');
          at += count;
        }
        return bytes.buffer;
      },
    };
    if (size < 12) throw new Error('it is no Parquet file');
    const tail = new DataView((await buffer.slice(size - 8)) as ArrayBuffer);
    const metadataBytes = tail.getUint32(0, true);
    if (tail.getUint32(4, true) !== 0x31524150) throw new Error('it is no Parquet file, or cut short');
    if (metadataBytes > Math.min(size - 8, LARGEST_METADATA)) throw new Error('its metadata is broken');
    const metadata = await parquetMetadataAsync(buffer);
    const groups = metadata.row_groups.map(({ num_rows }) => Number(num_rows));
    const rows = groups.reduce((sum, count) => sum + count, 0);
    if (groups.some((count) => !(count >= 0)) || !Number.isSafeInteger(rows)) throw new Error('its metadata is broken');
    return { columns: topColumns(metadata), rows, groups, metadata, buffer, close: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Names of the children of the schema's root. */
function topColumns({ schema }: FileMetaData): string[] {
  const names: string[] = [];
  let at = 1;
  const skip = (): void => {
    const children = schema[at]?.num_children ?? 0;
    at++;
    for (let i = 0; i < children && at < schema.length; i++) skip();
  };
  while (at < schema.length) {
    names.push(schema[at]!.name);
    skip();
  }
  return names;
}

/** The documents of rows begin <= i < end, which are one row group. Throws an Error for a file that is broken. */
export async function readRows(
  path: string,
  begin: number,
  end: number,
  columns: NonNullable<SourceOptions['columns']>,
): Promise<(Item | Skip)[]> {
  const file = await openParquet(path);
  try {
    let first = 0;
    const group = file.metadata.row_groups.find(({ num_rows }) => {
      const found = first === begin && Number(num_rows) === end - begin;
      first += Number(num_rows);
      return found;
    });
    if (!group) throw new Error('its metadata is broken');
    const names = [...new Set(columns.map(({ column }) => column))];
    await checkGroup(file, group, names);
    const rows = await parquetReadObjects({
      file: file.buffer,
      metadata: file.metadata,
      columns: names,
      rowStart: begin,
      rowEnd: end,
      compressors,
      utf8: false,
    });
    return rows.map((row, i) => rowItem(row, begin + i, columns));
  } finally {
    file.close();
  }
}

/** The first row of a file that has one, by column; texts as strings where the file says that they are. */
export async function firstRow(path: string): Promise<Record<string, unknown> | undefined> {
  const file = await openParquet(path);
  try {
    const { buffer, metadata } = file;
    const group = metadata.row_groups.find(({ num_rows }) => num_rows > 0);
    if (group) await checkGroup(file, group, file.columns);
    const [row] = await parquetReadObjects({
      file: buffer,
      metadata,
      rowStart: 0,
      rowEnd: 1,
      compressors,
      utf8: false,
    });
    return row;
  } finally {
    file.close();
  }
}

/** Throws an Error for a row group that is too large, or whose counts and sizes contradict each other. */
async function checkGroup(file: ParquetFile, group: RowGroup, names: readonly string[]): Promise<void> {
  const bytes = Number(group.total_byte_size);
  const rows = Number(group.num_rows);
  const large = bytes > LARGEST_GROUP ? `${bytes} bytes` : rows > MOST_ROWS ? `${rows} rows` : undefined;
  if (large !== undefined) throw new Error(`a row group of ${large} is too large; write the file with smaller ones`);
  for (const chunk of group.columns)
    if (names.includes(chunk.meta_data?.path_in_schema[0] ?? '')) await checkPages(file, chunk);
}

/**
 * Walks over the pages of a column, from header to header. The library makes arrays as long as these headers say, and
 * fills them: one that is damaged would cost minutes and all memory.
 */
async function checkPages({ buffer }: ParquetFile, { meta_data: column }: ColumnChunk): Promise<void> {
  if (!column) throw new Error('its metadata is broken');
  const expected = Number(column.num_values);
  const begin = Number(column.dictionary_page_offset ?? column.data_page_offset);
  if (!(expected >= 0 && expected <= MOST_ROWS)) throw broken(`a column of ${expected} values`);
  const view = new DataView(await buffer.slice(begin, begin + Number(column.total_compressed_size)));
  const reader = { view, offset: 0 };
  let values = 0;
  let unpacked = 0;
  while (values < expected && reader.offset < view.byteLength - 1) {
    const header = parquetHeader(reader);
    const { compressed_page_size: packed, uncompressed_page_size: size } = header;
    if (!(packed >= 0 && packed <= view.byteLength - reader.offset)) throw broken(`a page of ${packed} bytes`);
    if (!(size >= 0 && (unpacked += size) <= LARGEST_GROUP)) throw broken(`a page of ${size} bytes unpacked`);
    reader.offset += packed;
    const page = header.data_page_header ?? header.data_page_header_v2;
    const count = page?.num_values ?? header.dictionary_page_header?.num_values ?? 0;
    // The words of a dictionary have a byte each, at least.
    if (!(count >= 0 && count <= (page ? expected - values : size))) throw broken(`a page of ${count} values`);
    if (page) values += count;
    const { data_page_header_v2: v2 } = header;
    if (!v2) continue;
    const parts = [v2.num_nulls, v2.num_rows].every((part) => part >= 0 && part <= count);
    const levels = [v2.definition_levels_byte_length, v2.repetition_levels_byte_length];
    if (!parts || !levels.every((part) => part >= 0 && part <= packed)) throw broken('a page whose parts do not fit');
  }
}

function broken(what: string): Error {
  return new Error(`it has ${what}, which cannot be`);
}

function rowItem(
  row: Record<string, unknown>,
  index: number,
  columns: NonNullable<SourceOptions['columns']>,
): Item | Skip {
  const place = { row: index };
  const segments: RawSegment[] = [];
  for (const { kind, column } of columns) {
    const value = row[column];
    if (value === null || value === undefined) return { place, reason: `column ${column} is null` };
    if (kind === 'text') {
      const text = typeof value === 'string' ? value : utf8(value);
      if (text === undefined) return { place, reason: `column ${column} is not text in UTF-8` };
      segments.push({ text });
      continue;
    }
    const media = mediaOf(value);
    if (media === undefined)
      return { place, reason: `column ${column} holds neither bytes nor {bytes, path} as Hugging Face stores them` };
    segments.push(kind === 'image' ? { image: media } : { audio: media });
  }
  return { place, segments };
}

function utf8(value: unknown): string | undefined {
  if (!ArrayBuffer.isView(value)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(value);
  } catch {
    return undefined;
  }
}

/** What a cell holds of a picture or sound: bytes, `{bytes, path}`, or a path. */
export function mediaOf(value: unknown): Media | undefined {
  if (typeof value === 'string') return { path: value };
  if (ArrayBuffer.isView(value)) return { bytes: value as Uint8Array };
  const { bytes, path } = (value ?? {}) as { bytes?: unknown; path?: unknown };
  if (ArrayBuffer.isView(bytes)) return { bytes: bytes as Uint8Array };
  return typeof path === 'string' && path !== '' ? { path } : undefined;
}
