import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync, constants } from 'node:zlib';
import { MotError } from '../../errors.js';
import { audioFormat } from '../../media/channels.js';
import { isSkip } from './item.js';
import { firstRow, mediaOf } from './parquet.js';
import { jsonItem } from './read.js';

/** Pictures and sounds with a caption of the same name beside them. */
export interface CaptionedFiles {
  /** JSON lines that join them: the caption, then what it is of. */
  lines: string[];
  /** Folder from which their paths start. */
  root: string;
}

/** What was found in a folder. */
export interface DetectedData {
  /** To be written to a file, which is one more source, with this `root`. */
  captioned?: CaptionedFiles;
  /** The `sources` of a config of `mot prepare`. */
  sources: Record<string, unknown>[];
  /** What was seen, and what may have to be changed by hand; sentences. */
  notes: string[];
}

/** Endings of the files of each kind of source, and of what no source reads by itself. */
const ENDINGS = {
  jsonl: ['.jsonl', '.jsonl.gz', '.ndjson', '.ndjson.gz'],
  webdataset: ['.tar', '.tar.gz', '.tgz'],
  parquet: ['.parquet'],
  text: ['.txt', '.txt.gz'],
  loose: ['.png', '.jpg', '.jpeg', '.webp', '.wav', '.flac', '.mp3', '.ogg'],
} as const;

type Kind = keyof typeof ENDINGS;

/** A column of a config: the kind of segment, and its name. */
type Column = Record<string, string>;

/** Files that are looked at, at most. */
const MOST_FILES = 100_000;
/** JSONL files whose first lines are looked at, at most. */
const MOST_FIRST_LINES = 32;
/** Bytes of the beginning of a file that are read. */
const BEGINNING = 1 << 20;
/** Text files that a config names one by one, at most. */
const MOST_NAMED = 100;

/** Columns of text whose names say that they are what a model should read. */
const TEXT_NAMES = /text|caption|content|sentence|prompt|description|transcript/i;

/**
 * Looks at a file or folder and says which sources it makes: JSONL, WebDataset tars, Parquet and text, by the names of
 * files and what stands at their beginnings; and pictures and sounds that have a caption beside them.
 *
 * @param made A file that an earlier call's `captioned` went into: no document of the user's.
 * @throws MotError ERR_FILE_OPEN where there is nothing, ERR_DATA where nothing can be used.
 */
export async function detectSources(where: string, made = ''): Promise<DetectedData> {
  const info = statSync(where, { throwIfNoEntry: false });
  if (!info) throw new MotError('ERR_FILE_OPEN', `there is no file or folder ${where}; check the path.`);
  const files = info.isDirectory() ? walk(where).filter((file) => path.resolve(file) !== path.resolve(made)) : [where];
  const notes: string[] = [];
  if (files.length === MOST_FILES) notes.push(`only the first ${MOST_FILES} files of ${where} were looked at.`);
  const sources: Record<string, unknown>[] = [];
  const pairs = info.isDirectory() ? captionPairs(files) : new Map<string, string[]>();
  for (const kind of ['jsonl', 'webdataset', 'parquet', 'text'] as const) {
    const own = files.filter((file) => kindOf(file) === kind && !pairs.has(file));
    if (own.length === 0) continue;
    // A pattern would name the captions too.
    const byName = kind === 'text' && pairs.size > 0;
    if (byName && own.length > MOST_NAMED) {
      notes.push(
        `${own.length} text files are no captions, as ${own[0]!}; add a source for them: a pattern that names no caption.`,
      );
      continue;
    }
    const patterns = info.isDirectory() && !byName ? patternsOf(where, kind, own) : own;
    notes.push(`${kind}: ${own.length} ${own.length === 1 ? 'file' : 'files'}, ${patterns.join(', ')}.`);
    const source = { [kind]: patterns.length === 1 ? patterns[0] : patterns };
    let columns: Column[] | undefined;
    if (kind === 'jsonl') columns = jsonlColumns(own.slice(0, MOST_FIRST_LINES), notes);
    else if (kind === 'parquet') columns = await parquetColumns(own[0]!, notes);
    sources.push(columns ? { ...source, columns } : source);
  }
  const captioned = captionedFiles(where, pairs, notes);
  const joined = [...pairs.values()].reduce((sum, media) => sum + media.length, 0);
  const loose = files.filter((file) => kindOf(file) === 'loose').length - joined;
  if (sources.length === 0 && !captioned) {
    const hint =
      loose > 0
        ? `it has ${loose} pictures or sounds, but nothing that puts them into documents: put a .txt of the same name with a caption beside each, or write a .jsonl with lines such as [{"text": "a caption"}, {"image": "a.png"}]`
        : 'JSONL, WebDataset tars, Parquet and text files are known by their endings';
    throw new MotError('ERR_DATA', `nothing in ${where} can be a source: ${hint}.`);
  }
  if (loose > 0)
    notes.push(
      `${loose} pictures or sounds lie there as files: they are read where a line of a .jsonl names them, as [{"text": "a caption"}, {"image": "a.png"}] does.`,
    );
  return { sources, notes, ...(captioned ? { captioned } : {}) };
}

/** Regular files below a folder, sorted; hidden ones and links to folders are passed over, as in patterns. */
function walk(folder: string): string[] {
  const files: string[] = [];
  const folders = [folder];
  for (let next = folders.pop(); next !== undefined && files.length < MOST_FILES; next = folders.pop())
    for (const entry of readdirSync(next, { withFileTypes: true })) {
      if (entry.name.startsWith('.')) continue;
      const name = path.join(next, entry.name);
      if (entry.isDirectory()) folders.push(name);
      else if (files.length < MOST_FILES && statSync(name, { throwIfNoEntry: false })?.isFile()) files.push(name);
    }
  return files.sort();
}

function endingOf(file: string, kind: Kind): string | undefined {
  return ENDINGS[kind].find((ending) => file.toLowerCase().endsWith(ending));
}

function kindOf(file: string): Kind | undefined {
  return (Object.keys(ENDINGS) as Kind[]).find((kind) => endingOf(file, kind) !== undefined);
}

/** A pattern for each ending, as it is spelt, that names these files: `**` only where some lie deeper. */
function patternsOf(folder: string, kind: Kind, files: readonly string[]): string[] {
  const patterns = new Map<string, boolean>();
  for (const file of files) {
    const ending = file.slice(-endingOf(file, kind)!.length);
    const deeper = path.dirname(file) !== path.normalize(folder).replace(/(.)\/$/, '$1');
    patterns.set(ending, (patterns.get(ending) ?? false) || deeper);
  }
  return [...patterns].map(([ending, deeper]) => path.join(folder, deeper ? '**' : '', `*${ending}`));
}

/**
 * The keys of JSON lines that hold texts, pictures and sounds under names of their own; undefined where the files do not
 * agree in them, or need none. Notes: what is wrong with their first lines, each thing once, and keys that are not read.
 */
function jsonlColumns(files: readonly string[], notes: string[]): Column[] | undefined {
  const firsts = files.map((file) => ({ file, line: firstLineOf(file) }));
  const found = firsts.map(({ file, line }) => (typeof line === 'string' ? ownKeys(file, line) : undefined));
  const [columns] = found;
  if (columns && found.every((other) => JSON.stringify(other) === JSON.stringify(columns))) {
    const keys = Object.keys(JSON.parse(firsts[0]!.line as string) as object).join(', ');
    notes.push(
      `keys of ${files[0]!}: ${keys}; taken: ${columns.map((column) => Object.values(column)[0]).join(', ')}.`,
    );
    return columns;
  }
  const said = new Map<string, string>();
  for (const { file, line } of firsts) {
    const noted = typeof line === 'string' ? noteOfLine(file, line) : line;
    if (noted && !said.has(noted.what)) said.set(noted.what, noted.note);
  }
  notes.push(...said.values());
  return undefined;
}

/** Columns of a line that is an object with keys of its own names: paths of media that are there, and texts. */
function ownKeys(file: string, line: string): Column[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value) || 'segments' in value) return undefined;
  const strings = Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  const names = { text: [], image: [], audio: [] } as Record<'text' | 'image' | 'audio', [string, string][]>;
  for (const entry of strings) names[kindOfValue(file, entry[1])].push(entry);
  const columns: Column[] = [
    ...textNames(names.text).map((name) => ({ text: name })),
    ...names.image.map(([name]) => ({ image: name })),
    ...names.audio.map(([name]) => ({ audio: name })),
  ];
  // Lines whose segments have their usual names are read as they stand, and so are those of which one would be left out.
  const taken = columns.map((column) => Object.values(column)[0]);
  const left = ['text', 'image', 'audio'].some((key) => key in value && !taken.includes(key));
  const usual = columns.every((column) => Object.entries(column).every(([kind, name]) => kind === name));
  return usual || left ? undefined : columns;
}

/** Whether a text is the path of a picture or sound, as seen from the file that has it, or such a thing as a data URI. */
function kindOfValue(file: string, text: string): 'text' | 'image' | 'audio' {
  const uri = /^data:(image|audio)\//.exec(text);
  if (uri) return uri[1] as 'image' | 'audio';
  if (text.length > 4096 || kindOf(text) !== 'loose') return 'text';
  if (!statSync(path.resolve(path.dirname(file), text), { throwIfNoEntry: false })?.isFile()) return 'text';
  return isSound(text) ? 'audio' : 'image';
}

/** Its first line; a note where it cannot be read; undefined where it has none. */
function firstLineOf(file: string): string | { what: string; note: string } | undefined {
  let bytes: Buffer;
  try {
    bytes = beginning(file);
  } catch (error) {
    const { message } = error as Error;
    return { what: message, note: `${file} cannot be read: ${message}.` };
  }
  const lines = bytes.toString('utf8').split('\n');
  // The last one may be cut.
  return (lines.length > 1 ? lines.slice(0, -1) : lines).find((text) => text.trim() !== '');
}

function noteOfLine(file: string, line: string): { what: string; note: string } | undefined {
  const item = jsonItem(line, {});
  if (isSkip(item))
    return {
      what: item.reason,
      note: `the first line of ${file} cannot be used: ${item.reason}. Lines are {"text": ...}, {"image": PATH}, {"audio": PATH} or lists of these.`,
    };
  const keys = Object.keys(JSON.parse(line) as object);
  const taken = keys.filter((key) => ['text', 'image', 'audio'].includes(key));
  // A list of segments or `{segments, key}` has no such keys; what else stands there is no mistake of a beginner's.
  if (taken.length === 0 || taken.length === keys.length) return undefined;
  const what = `${keys.join(', ')}; taken: ${taken.join(', ')}`;
  return { what, note: `keys of the first line of ${file}: ${what}.` };
}

/** By caption (a .txt): the pictures and sounds of its name beside it, pictures first. */
function captionPairs(files: readonly string[]): Map<string, string[]> {
  const stem = (file: string): string => file.slice(0, -path.extname(file).length);
  const media = new Map<string, string[]>();
  for (const file of files)
    if (kindOf(file) === 'loose') media.set(stem(file), [...(media.get(stem(file)) ?? []), file]);
  const pairs = new Map<string, string[]>();
  for (const file of files) {
    const of = path.extname(file).toLowerCase() === '.txt' ? media.get(stem(file)) : undefined;
    if (of) pairs.set(file, [...of.filter((name) => !isSound(name)), ...of.filter(isSound)]);
  }
  return pairs;
}

function isSound(file: string): boolean {
  return /\.(wav|flac|mp3|ogg)$/i.test(file);
}

function captionOf(file: string): string | undefined {
  if (statSync(file).size > BEGINNING) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file)).trim();
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Lines that join pairs; undefined: there are none. */
function captionedFiles(
  root: string,
  pairs: ReadonlyMap<string, readonly string[]>,
  notes: string[],
): CaptionedFiles | undefined {
  const lines: string[] = [];
  for (const [caption, media] of pairs) {
    const text = captionOf(caption);
    if (text === undefined) {
      notes.push(
        `${caption} is no caption, being no UTF-8 or more than a MB of it; it is left out, and what it is of.`,
      );
      continue;
    }
    const segments = media.map((file) => ({ [isSound(file) ? 'audio' : 'image']: path.relative(root, file) }));
    lines.push(JSON.stringify([{ text }, ...segments]));
  }
  if (lines.length === 0) return undefined;
  notes.push(
    `captions: ${lines.length} text files have the name of a picture or sound beside them, and are joined to it.`,
  );
  return { lines, root };
}

/** The first bytes of a file, unpacked. */
function beginning(file: string): Buffer {
  const fd = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(BEGINNING);
    const head = bytes.subarray(0, readSync(fd, bytes, 0, BEGINNING, 0));
    if (!/\.gz$/i.test(file)) return head;
    // Only its beginning is there, so it does not end as it should.
    return gunzipSync(head, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: 64 * BEGINNING });
  } finally {
    closeSync(fd);
  }
}

/** Of texts by name: those whose names say that they are to be read, or else the longest. */
function textNames(texts: readonly [name: string, text: string][]): string[] {
  const named = texts.filter(([name]) => TEXT_NAMES.test(name));
  const [longest] = [...texts].sort(([, a], [, b]) => b.length - a.length);
  return (named.length > 0 ? named : longest ? [longest] : []).map(([name]) => name);
}

/** Columns of a Parquet file that look like text, pictures and sounds, by its first row. */
async function parquetColumns(file: string, notes: string[]): Promise<Column[]> {
  let row: Record<string, unknown> | undefined;
  try {
    row = await firstRow(file);
  } catch (error) {
    throw new MotError('ERR_DATA', `${file} cannot be read: ${(error as Error).message}.`, { cause: error });
  }
  const texts: [string, string][] = [];
  const images: string[] = [];
  const sounds: string[] = [];
  for (const [name, value] of Object.entries(row ?? {})) {
    if (typeof value === 'string') texts.push([name, value]);
    const media = typeof value === 'string' ? undefined : mediaOf(value);
    if (!media || !('bytes' in media)) continue;
    if (audioFormat(media.bytes) !== undefined) sounds.push(name);
    else if (await isPicture(media.bytes)) images.push(name);
  }
  const columns = [
    ...textNames(texts).map((name) => ({ text: name })),
    ...images.map((name) => ({ image: name })),
    ...sounds.map((name) => ({ audio: name })),
  ];
  const all = Object.keys(row ?? {}).join(', ');
  if (columns.length === 0)
    throw new MotError(
      'ERR_DATA',
      `no column of ${file} looks like text, pictures or sounds in its first row; it has ${all || 'no row'}.`,
    );
  notes.push(`columns of ${file}: ${all}; taken: ${columns.map((column) => Object.values(column)[0]).join(', ')}.`);
  return columns;
}

async function isPicture(bytes: Uint8Array): Promise<boolean> {
  const { default: sharp } = await import('sharp');
  return sharp(bytes)
    .metadata()
    .then(
      () => true,
      () => false,
    );
}
