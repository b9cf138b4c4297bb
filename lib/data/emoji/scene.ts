import { randomBits, randomKey, randomUniform, type RandomKey } from '../../modalities/random.js';
import type { SplitName } from '../dataset.js';
import { Permutation } from '../permutation.js';
import { STYLES, TONES, type EmojiWorld } from './concepts.js';
import type { EmojiOptions } from './options.js';

/** Backgrounds by the word that captions use. */
export const COLOURS = [
  { name: 'red', rgb: [214, 64, 69] },
  { name: 'orange', rgb: [242, 153, 74] },
  { name: 'yellow', rgb: [246, 219, 110] },
  { name: 'green', rgb: [86, 160, 96] },
  { name: 'blue', rgb: [66, 122, 199] },
  { name: 'purple', rgb: [140, 98, 178] },
  { name: 'white', rgb: [248, 248, 248] },
  { name: 'black', rgb: [28, 28, 32] },
] as const satisfies { name: string; rgb: [number, number, number] }[];

/** One emoji at full size, or two at half size: `beside`: the first on the left; `stacked`: the first above. */
export type Layout = 'single' | 'beside' | 'stacked';

/** What a picture shows. */
export interface Scene {
  layout: Layout;
  /** Indices of one or two glyphs of the world. */
  glyphs: number[];
  /** Index into COLOURS. */
  colour: number;
}

/** A segment of a document: T text, I image, S speech. */
export type SegmentKind = 'T' | 'I' | 'S';

/** A document before it is tokens. */
export type EmojiDocument =
  | { kind: 'gloss'; gloss: number }
  | {
      kind: 'scene';
      scene: Scene;
      /** The caption in pieces that are each spoken as one clip. */
      caption: string[];
      order: readonly SegmentKind[];
      /** Index into the options' voices. */
      voice: number;
    };

/** Interleavings, by whether the caption can be spoken. */
const ORDERS = ['TI', 'IT', 'TS', 'ST', 'TIS', 'TSI', 'ITS', 'IST', 'STI', 'SIT'].map(kinds);
const SILENT_ORDERS = ['TI', 'IT'].map(kinds);
/** The same where pictures are latents: how often the caption comes first is drawn for each document. */
const LATENT_ORDERS = SILENT_ORDERS.slice(0, 1);

/** One scene or gloss in so many is kept from training, for validation. */
const RESERVED = 50;

/** Where in the stream of documents each split begins; splits that share scenes are kept apart by RESERVED. */
const USES: Record<SplitName, string> = {
  train: 'emoji.train',
  validation: 'emoji.validation',
  heldout: 'emoji.heldout',
};

/**
 * Composes documents. Document i of a split follows from (seed, split, i) and the world alone. Training and validation
 * draw from one keyed permutation of all scenes of known concepts, of which a part is reserved for validation; a scene
 * comes back only after all others came, and then presented in another way (order, phrasing, voice), so that no document
 * is seen twice before every scene was shown in every way.
 */
export class SceneStream {
  readonly #world: EmojiWorld;
  readonly #options: EmojiOptions;
  readonly #glyphs: { known: number[]; heldout: number[] };
  readonly #presentation: RandomKey;
  readonly #kinds: Record<SplitName, RandomKey>;
  readonly #captionFirst: RandomKey;
  readonly #permutations = new Map<string, Permutation>();
  readonly #glosses: number;

  /** @param glosses Number of glosses to choose from. */
  constructor(world: EmojiWorld, options: EmojiOptions, glosses: number) {
    this.#world = world;
    this.#options = options;
    this.#glosses = glosses;
    const indices = world.glyphs.map((_, index) => index);
    const heldout = (glyph: number): boolean => world.concepts[world.glyphs[glyph]!.concept]!.heldout;
    this.#glyphs = { known: indices.filter((glyph) => !heldout(glyph)), heldout: indices.filter(heldout) };
    this.#presentation = randomKey(options.seed, 'emoji.presentation');
    this.#captionFirst = randomKey(options.seed, 'emoji.caption_first');
    this.#kinds = {
      train: randomKey(options.seed, USES.train),
      validation: randomKey(options.seed, USES.validation),
      heldout: randomKey(options.seed, USES.heldout),
    };
  }

  /** Glyphs of concepts that training sees, and of those that it never sees. */
  get glyphs(): { readonly known: readonly number[]; readonly heldout: readonly number[] } {
    return this.#glyphs;
  }

  /** Document i of a split. */
  document(split: SplitName, i: number): EmojiDocument {
    const key = this.#kinds[split];
    if (this.#glosses > 0 && split !== 'heldout' && randomUniform(key, 2 * i) < this.#options.glosses)
      return { kind: 'gloss', gloss: this.#draw('gloss', this.#glosses, split, i).index };

    const single = randomUniform(key, 2 * i + 1) < this.#options.singles;
    const { index, pass } = this.#draw(single ? 'single' : 'pair', this.#arrangements(split, single), split, i);
    const scene = decodeScene(index, single, this.#glyphsOf(split));

    const { phrasings, voices, latents } = this.#options;
    const orders = latents ? LATENT_ORDERS : this.canSpeak(scene) ? ORDERS : SILENT_ORDERS;
    // Low bits of a hash of the scene, then one step further at each pass: all ways before one comes back.
    const ways = orders.length * phrasings * voices.length;
    const way = (randomBits(this.#presentation, index % 2 ** 32) + pass) % ways;
    const phrasing = Math.floor(way / orders.length) % phrasings;
    return {
      kind: 'scene',
      scene,
      caption: describe(this.#world, scene, phrasing),
      order: latents ? this.#latentOrder(latents.caption_first, split, i) : orders[way % orders.length]!,
      voice: Math.floor(way / (orders.length * phrasings)),
    };
  }

  /** How many scenes of one emoji validation, or the held-out split, has before one comes back. */
  singles(split: 'validation' | 'heldout'): number {
    return this.#part('single', this.#arrangements(split, true), split).size;
  }

  /** Scene i of one emoji of a split, in the order of its documents; all are different for i < singles(split). */
  single(split: 'validation' | 'heldout', i: number): Scene {
    const { index } = this.#draw('single', this.#arrangements(split, true), split, i);
    return decodeScene(index, true, this.#glyphsOf(split));
  }

  /** Caption or picture first, drawn for document i of a split. */
  #latentOrder(captionFirst: number, split: SplitName, i: number): readonly SegmentKind[] {
    const draw = randomUniform(this.#captionFirst, i, Object.keys(USES).indexOf(split));
    return SILENT_ORDERS[draw < captionFirst ? 0 : 1]!;
  }

  /** Whether all its concepts have spoken names. */
  canSpeak(scene: Scene): boolean {
    return scene.glyphs.every((glyph) => this.#world.concepts[this.#world.glyphs[glyph]!.concept]!.spoken);
  }

  #glyphsOf(split: SplitName): readonly number[] {
    return split === 'heldout' ? this.#glyphs.heldout : this.#glyphs.known;
  }

  /** Scenes with one emoji, or with two, of the glyphs that a split shows. */
  #arrangements(split: SplitName, single: boolean): number {
    const glyphs = this.#glyphsOf(split).length;
    return (single ? glyphs : 2 * glyphs ** 2) * COLOURS.length;
  }

  /** Which of the `count` things of a permutation a split draws. */
  #part(what: string, count: number, split: SplitName): { use: string; begin: number; size: number } {
    const use = `${split === 'heldout' ? 'heldout' : 'known'}.${what}`;
    const reserved = split === 'heldout' ? 0 : Math.ceil(count / RESERVED);
    return split === 'validation'
      ? { use, begin: count - reserved, size: reserved }
      : { use, begin: 0, size: count - reserved };
  }

  /** The i-th draw of a split from `count` things, and how often all of them came before. */
  #draw(what: string, count: number, split: SplitName, i: number): { index: number; pass: number } {
    const { use, begin, size } = this.#part(what, count, split);
    let permutation = this.#permutations.get(use);
    if (permutation === undefined) {
      permutation = new Permutation(count, this.#options.seed, use);
      this.#permutations.set(use, permutation);
    }
    return { index: permutation.at(begin + (i % size)), pass: Math.floor(i / size) };
  }
}

/** Scene number `index`, the mixed-radix digits being colour, arrangement and glyphs. */
function decodeScene(index: number, single: boolean, glyphs: readonly number[]): Scene {
  const colour = index % COLOURS.length;
  const rest = Math.floor(index / COLOURS.length);
  if (single) return { layout: 'single', glyphs: [glyphs[rest]!], colour };
  const pair = Math.floor(rest / 2);
  const first = glyphs[pair % glyphs.length]!;
  const second = glyphs[Math.floor(pair / glyphs.length)]!;
  return { layout: rest % 2 === 0 ? 'beside' : 'stacked', glyphs: [first, second], colour };
}

/** The caption of a scene in one of four phrasings, as pieces that are each spoken as one clip. */
export function describe(world: EmojiWorld, scene: Scene, phrasing: number): string[] {
  const on = `on ${COLOURS[scene.colour]!.name}`;
  const [first, second] = scene.glyphs.map((glyph) => {
    const { concept, style, tone } = world.glyphs[glyph]!;
    const name = [world.concepts[concept]!.name, ...(tone > 0 ? [TONES[tone]!] : [])];
    return { style: STYLES[style]!, name };
  });
  if (second === undefined) {
    const { style, name } = first!;
    if (phrasing === 0) return [style, ...name, on];
    if (phrasing === 1) return [...name, `in ${style} style`, on];
    if (phrasing === 2) return [on, style, ...name];
    return [on, ...name, `in ${style} style`];
  }
  const a = [first!.style, ...first!.name];
  const b = [second.style, ...second.name];
  const beside = scene.layout === 'beside';
  const pair =
    phrasing % 2 === 0 ? [...a, beside ? 'left of' : 'above', ...b] : [...b, beside ? 'right of' : 'below', ...a];
  return phrasing < 2 ? [...pair, on] : [on, ...pair];
}

/** Every piece that a spoken caption may hold. */
export function spokenPieces(world: EmojiWorld): string[] {
  const names = world.concepts.filter(({ spoken }) => spoken).map(({ name }) => name);
  if (names.length === 0) return [];
  const tones = new Set(world.glyphs.map(({ tone }) => tone));
  return [
    ...new Set([
      ...names,
      ...TONES.filter((_, tone) => tone > 0 && tones.has(tone)),
      ...STYLES.flatMap((style) => [style, `in ${style} style`]),
      ...['left of', 'right of', 'above', 'below'],
      ...COLOURS.map(({ name }) => `on ${name}`),
    ]),
  ];
}

function kinds(order: string): readonly SegmentKind[] {
  return [...order] as SegmentKind[];
}
