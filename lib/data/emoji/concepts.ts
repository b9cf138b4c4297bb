import { join } from 'node:path';
import { randomKey, randomUniform } from '../../modalities/random.js';
import type { EmojiOptions } from './options.js';
import { readJson, type DataPackage } from './packages.js';

/** Art styles by the word that captions use, and the package each comes from. */
export const STYLES = ['noto', 'fluent', 'twemoji'] as const;
const STYLE_PACKAGE: Record<(typeof STYLES)[number], DataPackage> = {
  noto: '@iconify-json/noto',
  fluent: '@iconify-json/fluent-emoji-flat',
  twemoji: '@iconify-json/twemoji',
};

/** What captions add to a name for a skin tone; index 0: none. */
export const TONES = ['', 'light skin', 'medium light skin', 'medium skin', 'medium dark skin', 'dark skin'] as const;

/** A thing with a name; its pictures are glyphs. */
export interface Concept {
  /** Lower-case words, letters and digits only. */
  name: string;
  /** Concepts that differ in gender or direction only share it: the unit of the split. */
  base: string;
  /** Whether training never sees its base concept. */
  heldout: boolean;
  spoken: boolean;
}

/** One picture of a concept. */
export interface Glyph {
  /** Indices into the concepts, STYLES and TONES. */
  concept: number;
  style: number;
  tone: number;
  svg: string;
}

/** All that scenes are composed of. */
export interface EmojiWorld {
  concepts: Concept[];
  glyphs: Glyph[];
}

/** An entry of emojibase-data/en/data.json. */
interface EmojibaseEntry {
  label: string;
  hexcode: string;
  group?: number;
  skins?: { hexcode: string; tone: number | number[] }[];
}

/** Groups of emojibase that are no pictures of things: regional indicators (none), components, flags. */
const FLAGS = 9;
const COMPONENTS = 2;

/** Joins names and pictures by code points, and chooses concepts as the options say. */
export function loadWorld(folders: Record<DataPackage, string>, options: EmojiOptions): EmojiWorld {
  const entries = readJson(join(folders['emojibase-data'], 'en', 'data.json')) as EmojibaseEntry[];
  const icons = STYLES.map((style) => new IconSet(folders[STYLE_PACKAGE[style]]));
  const drawn = entries.filter(
    (entry) =>
      entry.group !== undefined &&
      entry.group !== COMPONENTS &&
      icons.some((set) => set.has(codePoints(entry.hexcode))),
  );
  const ranked = drawn
    .map((entry) => ({
      entry,
      rank: plainness(entry, icons) + randomUniform(randomKey(options.seed, `rank:${entry.hexcode}`), 0),
    }))
    .sort((a, b) => a.rank - b.rank || (a.entry.hexcode < b.entry.hexcode ? -1 : 1))
    .map(({ entry }) => entry);
  const chosen = options.concepts === 0 ? ranked : ranked.slice(0, options.concepts);

  const world: EmojiWorld = { concepts: [], glyphs: [] };
  for (const entry of chosen) {
    const concept = world.concepts.length;
    const base = baseConcept(entry.hexcode);
    world.concepts.push({
      name: captionName(entry.label),
      base,
      heldout: isHeldout(base, options),
      spoken: !options.latents && concept < options.spoken,
    });
    const skins = options.skin_tones ? (entry.skins ?? []).filter(({ tone }) => typeof tone === 'number') : [];
    for (const { hexcode, tone } of [{ hexcode: entry.hexcode, tone: 0 }, ...skins]) {
      icons.forEach((set, style) => {
        const svg = set.svg(codePoints(hexcode));
        if (svg !== undefined) world.glyphs.push({ concept, style, tone: tone as number, svg });
      });
    }
  }
  return world;
}

/** Decided by base concept and seed alone, so that data sets of other sizes hold out the same ones. */
function isHeldout(base: string, options: EmojiOptions): boolean {
  return randomUniform(randomKey(options.seed, `split:${base}`), 0) < options.heldout;
}

/** Code points without variation selectors, the key that joins all packages. */
function codePoints(hexcode: string): string {
  return hexcode.toUpperCase().replace(/-FE0F/g, '');
}

/** The base concept of an emoji: without skin tones, gender and direction; a man and a woman count as a person. */
export function baseConcept(hexcode: string): string {
  return codePoints(hexcode)
    .replace(/-1F3F[B-F]/g, '')
    .replace(/\b1F46[89]\b/g, '1F9D1')
    .replace(/-200D-(2640|2642|27A1)/g, '');
}

/** A label as captions say it: lower case, without accents and punctuation; the names of keys stay distinct. */
export function captionName(label: string): string {
  return label
    .normalize('NFKD')
    .replace(/[\u0300-\u036f’']/g, '')
    .toLowerCase()
    .replace('#', 'hash')
    .replace('*', 'star')
    .replace(/[^a-z0-9]+/g, ' ')
    .trim();
}

/** 0 for names of one or two words with a picture in every style; more for others; flags last. */
function plainness(entry: EmojibaseEntry, icons: IconSet[]): number {
  const words = captionName(entry.label).split(' ').length;
  const everywhere = icons.every((set) => set.has(codePoints(entry.hexcode)));
  return (words <= 2 ? 0 : 1) + (everywhere ? 0 : 2) + (entry.group === FLAGS ? 4 : 0);
}

/** An icon set of Iconify, by code points. */
class IconSet {
  readonly #width: number;
  readonly #height: number;
  readonly #icons: Record<string, { body: string; width?: number; height?: number }>;
  readonly #aliases: Record<string, { parent: string; hFlip?: boolean }>;
  readonly #names = new Map<string, string>();

  constructor(folder: string) {
    const set = readJson(join(folder, 'icons.json')) as {
      width: number;
      height: number;
      icons: Record<string, { body: string; width?: number; height?: number }>;
      aliases?: Record<string, { parent: string; hFlip?: boolean }>;
    };
    this.#width = set.width;
    this.#height = set.height;
    this.#icons = set.icons;
    this.#aliases = set.aliases ?? {};
    const chars = readJson(join(folder, 'chars.json')) as Record<string, string>;
    for (const [hexcode, name] of Object.entries(chars)) this.#names.set(codePoints(hexcode), name);
  }

  has(points: string): boolean {
    return this.#names.has(points);
  }

  /** The picture as an SVG document of 32x32 pixels. */
  svg(points: string): string | undefined {
    let name = this.#names.get(points);
    let flip = false;
    for (let alias; name !== undefined && (alias = this.#aliases[name]); name = alias.parent)
      flip = flip !== (alias.hFlip ?? false);
    const icon = name === undefined ? undefined : this.#icons[name];
    if (icon === undefined) return undefined;
    const width = icon.width ?? this.#width;
    const height = icon.height ?? this.#height;
    const body = flip ? `<g transform="translate(${width} 0) scale(-1 1)">${icon.body}</g>` : icon.body;
    return `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="32" height="32" viewBox="0 0 ${width} ${height}">${body}</svg>`;
  }
}
