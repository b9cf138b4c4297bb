import type { Span } from '../../modalities/document.js';
import { ImageTokenizer } from '../../modalities/image/patch_codebook.js';
import { PixelCodec } from '../../modalities/image/pixel_codec.js';
import { SpeechTokenizer } from '../../modalities/speech/speech_units.js';
import type { Picture, Sound } from '../../modalities/tokenizer.js';
import type { PrepareProgress } from '../prepare_progress.js';
import { WorkerPool } from '../../threads/worker_pool.js';
import type { EmojiWorld } from './concepts.js';
import type { EmojiOptions } from './options.js';
import { renderSprites, SIDE, type Sprite } from './render.js';
import { spokenPieces, type Scene, type SceneStream } from './scene.js';
import { drawScene, encodeBackgrounds, sceneIds, type SpriteCodes } from './sprite_codes.js';
import type { EmojiTasks } from './worker.js';

/** Training scenes that the picture codebook, or the scale of latents, is learnt from. */
const FITTED_SCENES = 2000;
/** Work of one task: small enough that all workers end at about the same time. */
const CLIPS_A_TASK = 6;
const SPRITES_A_TASK = 20;

export type EmojiPool = WorkerPool<EmojiTasks>;

/** Starts the workers; they do all that takes long but rendering, for which libvips has threads of its own. */
export function startEmojiPool(threads: number): EmojiPool {
  return new WorkerPool<EmojiTasks>(new URL('./worker.js', import.meta.url), threads);
}

/** All pictures, and how they become tokens or latents. */
export interface PictureParts {
  sprites: Sprite[];
  /** The tokenizer of discrete pictures, or the codec of continuous ones. */
  image: ImageTokenizer | PixelCodec;
  /** A scene's picture as a span. */
  span(scene: Scene): Span;
}

/** Renders all glyphs, and learns from training scenes how pictures become tokens, or latents where the options say so. */
export async function preparePictures(
  world: EmojiWorld,
  stream: SceneStream,
  options: EmojiOptions,
  pool: EmojiPool,
  progress: PrepareProgress,
): Promise<PictureParts> {
  const { glyphs } = world;
  const rendering = progress.stage('pictures', glyphs.length);
  const sprites = await renderSprites(
    glyphs.map(({ svg }) => svg),
    () => rendering.advance(),
  );
  rendering.end();

  const pictures: Picture[] = [];
  for (let i = 0; i < options.documents && pictures.length < FITTED_SCENES; i++) {
    const document = stream.document('train', i);
    if (document.kind === 'scene') pictures.push(scenePicture(document.scene, sprites));
  }
  if (options.latents) {
    const codec = PixelCodec.fit(pictures, { pictureSize: SIDE, patchSize: options.latents.patch_size });
    const span = (scene: Scene): Span => ({ modality: 'image', latent: codec.encode(scenePicture(scene, sprites)) });
    return { sprites, image: codec, span };
  }
  return { sprites, ...(await learnCodes(pictures, sprites, options, pool, progress)) };
}

function scenePicture(scene: Scene, sprites: readonly Sprite[]): Picture {
  return { width: SIDE, height: SIDE, data: drawScene(scene, sprites) };
}

/** Learns the codebook, and encodes every glyph on every background. */
async function learnCodes(
  pictures: Picture[],
  sprites: Sprite[],
  options: EmojiOptions,
  pool: EmojiPool,
  progress: PrepareProgress,
): Promise<Omit<PictureParts, 'sprites'>> {
  const learning = progress.stage('picture codes', 1);
  const { image_codes: codes, image_stages: stages, seed } = options;
  const tensors = await pool.run('trainImage', {
    pictures,
    options: { pictureSize: SIDE, codes, stages, seed },
    threads: pool.threads,
  });
  learning.end();

  const encoding = progress.stage('picture tokens', sprites.length);
  const spriteCodes = await pool.map<'encodeSprites', Sprite, SpriteCodes>(
    'encodeSprites',
    sprites,
    SPRITES_A_TASK,
    (part) => ({ tokenizer: tensors, sprites: part }),
    (done) => encoding.advance(done),
  );
  encoding.end();
  const image = ImageTokenizer.fromTensors(tensors);
  const backgrounds = encodeBackgrounds(image);
  const span = (scene: Scene): Span => ({ modality: 'image', ids: sceneIds(image, scene, spriteCodes, backgrounds) });
  return { image, span };
}

/** All clips, their tokenizer and their units. */
export interface SpeechParts {
  tokenizer: SpeechTokenizer;
  /** By voice and text. */
  sounds: Map<string, Sound>;
  units: Map<string, Int32Array>;
}

/** Speaks clips. `folders`: of Flite's package, and for temporary files. */
export function speakClips(
  clips: readonly { text: string; voice: string }[],
  pool: EmojiPool,
  folders: { flite: string; scratch: string },
  onDone: (done: number) => void,
): Promise<Sound[]> {
  return pool.map<'speak', (typeof clips)[number], Sound>(
    'speak',
    clips,
    CLIPS_A_TASK,
    (part) => ({ ...folders, pieces: part }),
    onDone,
  );
}

/** Key of a clip. */
export function clipKey(voice: string, text: string): string {
  return `${voice}:${text}`;
}

/**
 * Speaks every piece of a caption in every voice, learns the units from those that training hears, and encodes all.
 *
 * @param folders Of Flite's package, and for temporary files.
 */
export async function prepareSpeech(
  world: EmojiWorld,
  options: EmojiOptions,
  pool: EmojiPool,
  progress: PrepareProgress,
  folders: { flite: string; scratch: string },
): Promise<SpeechParts> {
  const texts = spokenPieces(world);
  const pieces = options.voices.flatMap((voice) => texts.map((text) => ({ text, voice })));
  const speaking = progress.stage('spoken names', pieces.length);
  const sounds = await speakClips(pieces, pool, folders, (done) => speaking.advance(done));
  speaking.end();

  const learning = progress.stage('speech units', 1);
  const known = new Set(world.concepts.filter(({ heldout }) => !heldout).map(({ name }) => name));
  const heldout = new Set(world.concepts.map(({ name }) => name).filter((name) => !known.has(name)));
  const heard = sounds.filter((_, i) => !heldout.has(pieces[i]!.text));
  const tensors = await pool.run('trainSpeech', {
    sounds: heard,
    threads: pool.threads,
    options: { units: options.speech_units, seed: options.seed },
  });
  learning.end();

  const units = await pool.map<'encodeSounds', Sound, Int32Array>(
    'encodeSounds',
    sounds,
    Math.ceil(sounds.length / pool.threads),
    (part) => ({ tokenizer: tensors, sounds: part }),
    () => undefined,
  );
  const keys = pieces.map(({ voice, text }) => clipKey(voice, text));
  return {
    tokenizer: SpeechTokenizer.fromTensors(tensors),
    sounds: new Map(keys.map((key, i) => [key, sounds[i]!])),
    units: new Map(keys.map((key, i) => [key, units[i]!])),
  };
}
