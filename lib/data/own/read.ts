import { readFileSync, statSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { Item, Media, RawSegment, Skip } from './item.js';
import type { OwnOptions, SourceOptions } from './options.js';
import { isPacked } from './packed.js';
import { readRows } from './parquet.js';
import { readRecords, splitRecords, type RangeRecords, type RecordKind } from './records.js';
import type { SampleMember, Task } from './tasks.js';

/** What a task holds. */
export interface TaskItems {
  entries: (Item | Skip)[];
  /** Lines of a range of a text file. */
  lines: number;
}

/** Reads a task. Everything that is wrong with it is among the entries. */
export async function readTask(task: Task, { sources, limits, tokenizers }: OwnOptions): Promise<TaskItems> {
  const source = sources[task.source]!;
  const own = Object.keys(tokenizers.own);
  try {
    switch (task.kind) {
      case 'records':
        return recordItems(
          readRecords(task.file, task.begin, task.end, task.by, limits.file_mb * 1e6),
          task.by,
          source,
          limits,
          own,
        );
      case 'piece': {
        const { records, lines } = splitRecords(Buffer.from(task.content), task.by, limits.file_mb * 1e6);
        return recordItems({ records, lines: lines + task.dropped }, task.by, source, limits, own);
      }
      case 'files':
        return { entries: task.files.map((file) => readWholeFile(file, limits)), lines: 0 };
      case 'samples':
        return { entries: [...task.samples.map(sampleItem), ...task.skips], lines: 0 };
      case 'rows':
        return { entries: await readRows(task.file, task.begin, task.end, source.columns!), lines: 0 };
      case 'broken':
        return {
          entries: [{ place: task.line === undefined ? {} : { line: task.line }, reason: task.reason }],
          lines: 0,
        };
    }
  } catch (error) {
    const reason = `the file cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    const place = task.kind === 'rows' ? { row: task.begin } : {};
    return { entries: [{ place, reason }], lines: 0 };
  }
}

/** Text without a byte order mark; undefined for bytes that are not UTF-8. */
function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const NOT_UTF8 = 'it is not valid UTF-8';

function tooLarge(what: string, limits: OwnOptions['limits']): string {
  return `${what} has more than ${limits.file_mb} MB; raise limits.file_mb`;
}

/** Documents of records: lines of JSON, lines of text, or paragraphs. */
function recordItems(
  { records, lines }: RangeRecords,
  by: RecordKind,
  source: SourceOptions,
  limits: OwnOptions['limits'],
  own: readonly string[],
): TaskItems {
  const entries: (Item | Skip)[] = [];
  for (const { bytes, line } of records) {
    const place = { line };
    if (bytes === undefined) {
      entries.push({ place, reason: tooLarge(`the ${by}`, limits) });
      continue;
    }
    const text = decodeUtf8(bytes);
    if (text === undefined) entries.push({ place, reason: NOT_UTF8 });
    else if (text.trim() === '') continue;
    else if (source.kind === 'jsonl')
      entries.push(source.columns ? columnsItem(text, place, source.columns) : jsonItem(text, place, own));
    else entries.push({ place, segments: [{ text: text.trim() }] });
  }
  return { entries, lines };
}

function readWholeFile(file: string, limits: OwnOptions['limits']): Item | Skip {
  const place = { file };
  try {
    const most = limits.file_mb * 1e6;
    if (statSync(file).size > most) return { place, reason: tooLarge('the file', limits) };
    const bytes = readFileSync(file);
    const text = decodeUtf8(isPacked(file) ? gunzipSync(bytes, { maxOutputLength: most }) : bytes);
    return text === undefined ? { place, reason: NOT_UTF8 } : { place, segments: [{ text: text.trim() }] };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_BUFFER_TOO_LARGE') return { place, reason: tooLarge('the file, unpacked,', limits) };
    return { place, reason: `the file cannot be read: ${message}` };
  }
}

/** The first keys of an object, short enough for a message. */
function keysOf(object: object): string {
  const keys = Object.keys(object);
  const shown = keys.slice(0, 8).map((key) => key.slice(0, 40));
  return keys.length === 0 ? 'none' : shown.join(', ') + (keys.length > shown.length ? ', ...' : '');
}

function parseJson(text: string, place: Item['place']): { value: unknown } | Skip {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch (error) {
    return { place, reason: `it is not valid JSON: ${(error as Error).message.split('\n')[0]!.slice(0, 120)}` };
  }
}

/** A text, or a picture or sound by path or data URI; a sentence about what is wrong. */
function segmentOf(kind: 'text' | 'image' | 'audio', name: string, content: unknown): RawSegment | string {
  if (typeof content !== 'string') {
    const is = content === null ? 'null' : Array.isArray(content) ? 'a list' : `a ${typeof content}`;
    return `${name} is ${is}, not a text`;
  }
  if (kind === 'text') return { text: content };
  const media = mediaOf(content);
  if (typeof media === 'string') return media;
  return kind === 'image' ? { image: media } : { audio: media };
}

/** A document of a JSON line: the keys that the config names. */
function columnsItem(text: string, place: Item['place'], columns: NonNullable<SourceOptions['columns']>): Item | Skip {
  const parsed = parseJson(text, place);
  if ('reason' in parsed) return parsed;
  const { value } = parsed;
  if (!isObject(value)) return { place, reason: `it is not an object with ${columns[0]!.column}` };
  const segments: RawSegment[] = [];
  for (const { kind, column } of columns) {
    if (!Object.hasOwn(value, column)) return { place, reason: `it has no ${column}; its keys: ${keysOf(value)}` };
    const segment = segmentOf(kind, column, value[column]);
    if (typeof segment === 'string') return { place, reason: segment };
    segments.push(segment);
  }
  return { place, segments };
}

/** A document of a JSON line; or of a value: a segment, a list of them, or `{segments, key}`. */
export function jsonItem(text: string, place: Item['place'], own: readonly string[] = []): Item | Skip {
  const parsed = parseJson(text, place);
  if ('reason' in parsed) return parsed;
  const { value } = parsed;
  let key: string | undefined;
  let list: unknown = value;
  if (isObject(value) && 'segments' in value) {
    list = value['segments'];
    if (value['key'] !== undefined && typeof value['key'] !== 'string')
      return { place, reason: 'its key is not a text' };
    key = value['key'];
  }
  const segments: RawSegment[] = [];
  for (const [i, part] of (Array.isArray(list) ? (list as unknown[]) : [list]).entries()) {
    const where = Array.isArray(list) ? `segment ${i + 1}` : 'it';
    const kinds = ['text', 'image', 'audio', ...own];
    if (!isObject(part)) return { place, reason: `${where} is not an object with ${kinds.join(' or ')}` };
    const known = Object.entries(part).filter(([name]) => kinds.includes(name));
    if (known.length === 0)
      return { place, reason: `${where} has none of ${kinds.join(', ')}; its keys: ${keysOf(part)}` };
    for (const [name, content] of known) {
      if (own.includes(name)) {
        segments.push({ own: { modality: name, value: content } });
        continue;
      }
      const segment = segmentOf(name as 'text' | 'image' | 'audio', name, content);
      if (typeof segment === 'string') return { place, reason: `${where}: ${segment}` };
      segments.push(segment);
    }
  }
  return { place, segments, ...(key === undefined ? {} : { key }) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A path or the bytes of a data URI; a sentence about what is wrong. */
function mediaOf(content: string): Media | string {
  if (!content.startsWith('data:')) return { path: content };
  const comma = content.indexOf(',');
  if (comma < 0 || !/;base64$/i.test(content.slice(0, comma))) return 'its data URI is not base64';
  return { bytes: Buffer.from(content.slice(comma + 1), 'base64') };
}

const IMAGES = new Set(['jpg', 'jpeg', 'png', 'webp']);
const SOUNDS = new Set(['wav', 'flac', 'mp3', 'ogg']);

/** A document of a WebDataset sample: text, then pictures, then sounds. A caption in .json counts where no .txt is. */
function sampleItem({ key, members }: { key: string; members: SampleMember[] }): Item | Skip {
  const place = { member: key };
  const texts: RawSegment[] = [];
  const images: RawSegment[] = [];
  const sounds: RawSegment[] = [];
  for (const { extension, bytes } of members) {
    if (IMAGES.has(extension)) images.push({ image: { bytes } });
    else if (SOUNDS.has(extension)) sounds.push({ audio: { bytes } });
    else if (extension === 'txt') {
      const text = decodeUtf8(bytes);
      if (text === undefined) return { place, reason: `its .txt: ${NOT_UTF8}` };
      texts.push({ text: text.trim() });
    }
  }
  const json = texts.length === 0 ? members.find(({ extension }) => extension === 'json') : undefined;
  if (json) {
    const text = decodeUtf8(json.bytes);
    if (text === undefined) return { place, reason: `its .json: ${NOT_UTF8}` };
    const caption = jsonCaption(text);
    if (caption === undefined) return { place, reason: 'its .json is not valid JSON' };
    if (caption !== '') texts.push({ text: caption });
  }
  const segments = [...texts, ...images, ...sounds];
  if (segments.length === 0) {
    const has = members.map(({ extension }) => `.${extension}`).join(', ');
    return { place, reason: `it has no text, picture or sound, only ${has || 'nothing'}` };
  }
  return { place, segments };
}

/** `text` or `caption` of a JSON object, '' where it has none; undefined for what is not JSON. */
function jsonCaption(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const caption = isObject(value) ? (value['text'] ?? value['caption']) : undefined;
    return typeof caption === 'string' ? caption : '';
  } catch {
    return undefined;
  }
}
