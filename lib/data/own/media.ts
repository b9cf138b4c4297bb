import { readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { MotError } from '../../errors.js';
import { audioFormat } from '../../media/channels.js';
import { decodeAudio, decodeImage } from '../../media/decode.js';
import type { Segment, Tokenizers } from '../../modalities/document.js';
import { importModality, ModuleTokenizer } from '../../modalities/module.js';
import type { Tokenizer } from '../../modalities/tokenizer.js';
import type { Item, Media, OwnValue, RawSegment } from './item.js';
import type { OwnOptions } from './options.js';

/** Something about an item that keeps it from being used. */
export class BadItem extends Error {}

/** How media are read. */
export interface MediaOptions {
  image: OwnOptions['tokenizers']['image'];
  /** Modules of own modalities, by name. */
  own: OwnOptions['tokenizers']['own'];
  limits: OwnOptions['limits'];
  /** Folder that paths start from and must stay in. */
  root: string;
}

/** Kind of a segment in a source, and its modality. */
export const MODALITY_OF = { text: 'text', image: 'image', audio: 'speech' } as const;

/** Modality of a segment. */
export function modalityOf(segment: RawSegment): string {
  if ('own' in segment) return segment.own.modality;
  return MODALITY_OF[Object.keys(segment)[0] as keyof typeof MODALITY_OF];
}

/** Reads and decodes a segment. Throws BadItem with the reason where that cannot be. */
export async function decodeSegment(segment: RawSegment, options: MediaOptions): Promise<Segment> {
  if ('text' in segment) return segment;
  if ('own' in segment) return { [segment.own.modality]: await parseOwn(segment.own, options) } as unknown as Segment;
  const media = 'image' in segment ? segment.image : segment.audio;
  const { limits, image } = options;
  const bytes = readMedia(media, options);
  const name = 'path' in media ? `${media.path}: ` : '';
  try {
    if ('image' in segment) {
      const fit = { fit: image.fit, maxPixels: limits.image_pixels };
      return { image: await decodeImage(bytes, image.size, image.size, fit) };
    }
    // Other formats are decoded whole, whatever their length.
    if (audioFormat(bytes) === undefined) throw new BadItem(`${name}the sound is not WAV, MP3, FLAC or Ogg`);
    return { speech: await decodeAudio(bytes, { maxSeconds: limits.audio_seconds }) };
  } catch (error) {
    if (error instanceof MotError) throw new BadItem(`${name}${error.message}`);
    throw error;
  }
}

/** The raw value of an own modality. */
async function parseOwn({ modality, value }: OwnValue, { own }: MediaOptions): Promise<unknown> {
  const { parse } = await importModality(own[modality]!.module);
  try {
    return parse ? parse(value) : value;
  } catch (error) {
    throw new BadItem(`${modality}: ${(error as Error).message}`);
  }
}

function readMedia(media: Media, { limits, root }: MediaOptions): Uint8Array {
  if ('bytes' in media) {
    if (media.bytes.length === 0) throw new BadItem('a picture or sound has no bytes');
    if (media.bytes.length > limits.file_mb * 1e6) throw new BadItem(tooLarge(media.bytes.length, limits));
    return media.bytes;
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(media.path))
    throw new BadItem(`${media.path} is an address; nothing is fetched, download it first`);
  const file = path.resolve(root, media.path);
  try {
    const real = realpathSync(file);
    const inside = path.relative(realpathSync(root), real);
    if (inside === '..' || inside.startsWith(`..${path.sep}`) || path.isAbsolute(inside))
      throw new BadItem(`${media.path} leads out of ${root}; set root of the source to allow another folder`);
    const info = statSync(real);
    // A pipe or device might never end.
    if (!info.isFile()) throw new BadItem(`${media.path} is not a file`);
    if (info.size > limits.file_mb * 1e6) throw new BadItem(`${media.path}: ${tooLarge(info.size, limits)}`);
    return readFileSync(real);
  } catch (error) {
    if (error instanceof BadItem) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new BadItem(code === 'ENOENT' ? `there is no file ${media.path}` : `cannot read ${media.path}: ${message}`);
  }
}

function tooLarge(size: number, limits: OwnOptions['limits']): string {
  return `${size} bytes are more than limits.file_mb (${limits.file_mb}) allows`;
}

/** Ids of every segment of an item; segments without any are left out. Throws BadItem. */
export async function encodeItem(
  item: Item,
  tokenizers: Tokenizers,
  options: MediaOptions,
): Promise<{ modality: string; ids: Int32Array }[]> {
  const spans: { modality: string; ids: Int32Array }[] = [];
  for (const segment of item.segments) {
    const modality = modalityOf(segment);
    const tokenizer = tokenizers[modality];
    if (tokenizer === undefined)
      throw new BadItem(`it has ${modality}, which is not among the modalities of this data set`);
    const raw = await decodeSegment(segment, options);
    const ids = await encodeChecked(tokenizer, Object.values(raw)[0]);
    if (ids.length > 0) spans.push({ modality, ids });
  }
  if (spans.length === 0) throw new BadItem('it is empty');
  return spans;
}

/** Ids of a raw value. What a module's encoder throws, and ids out of range, are the item's fault. */
async function encodeChecked(tokenizer: Tokenizer<unknown>, raw: unknown): Promise<Int32Array> {
  if (!(tokenizer instanceof ModuleTokenizer)) return tokenizer.encode(raw);
  const { modality, size } = tokenizer;
  let ids: ArrayLike<number>;
  try {
    ids = await Promise.resolve(tokenizer.encode(raw));
  } catch (error) {
    throw new BadItem(`${modality}: its encoder failed: ${(error as Error).message}`);
  }
  const wrong = Array.from(ids).find((id) => !(Number.isInteger(id) && id >= 0 && id < size));
  if (wrong !== undefined)
    throw new BadItem(`${modality}: its encoder gave the id ${wrong}, which is not in [0, ${size})`);
  return Int32Array.from(ids);
}
