import type { Sound } from '../../modalities/tokenizer.js';
import type { TensorToWrite } from '../../io/safetensors.js';
import type { DatasetExample } from '../dataset.js';
import type { EmojiWorld } from './concepts.js';
import { SIDE } from './render.js';
import { describe, type Scene, type SceneStream } from './scene.js';
import { drawScene } from './sprite_codes.js';
import { clipKey, type PictureParts, type SpeechParts } from './pieces.js';
import { stringSounds } from './speech.js';

/** Concepts shown in the report, at most. */
const HELDOUT = 24;
const KNOWN = 12;
/** Documents looked through for them. */
const SEARCHED = 4000;

/** Scenes of one emoji, each of another concept: such that training never saw, then such that it did. */
export function makeExamples(
  world: EmojiWorld,
  stream: SceneStream,
  pictures: PictureParts,
  speech: SpeechParts | undefined,
  voice: string,
): { examples: DatasetExample[]; tensors: TensorToWrite[] } {
  const examples: DatasetExample[] = [];
  const tensors: TensorToWrite[] = [];
  const add = (scenes: Scene[], known: boolean): void => {
    scenes.forEach((scene, i) => {
      const name = `${known ? 'known' : 'heldout'}-${String(i).padStart(2, '0')}`;
      const caption = describe(world, scene, 0);
      const spoken = speech !== undefined && stream.canSpeak(scene);
      examples.push({ name, caption: caption.join(' '), known, spoken });
      tensors.push({ name: `${name}.picture`, shape: [SIDE, SIDE, 3], data: drawScene(scene, pictures.sprites) });
      if (!spoken) return;
      const clips = caption.map((text): Sound => speech.sounds.get(clipKey(voice, text))!);
      tensors.push({ name: `${name}.sound`, data: stringSounds(clips).samples });
    });
  };
  if (stream.glyphs.heldout.length > 0) add(pickSingles(world, stream, 'heldout', HELDOUT), false);
  add(pickSingles(world, stream, 'validation', KNOWN), true);
  return { examples, tensors };
}

/** Single scenes of different concepts from a split, spoken ones first. */
function pickSingles(world: EmojiWorld, stream: SceneStream, split: 'validation' | 'heldout', wanted: number): Scene[] {
  const byConcept = new Map<number, Scene>();
  for (let i = 0; i < SEARCHED; i++) {
    const document = stream.document(split, i);
    if (document.kind !== 'scene' || document.scene.layout !== 'single') continue;
    const { concept } = world.glyphs[document.scene.glyphs[0]!]!;
    if (!byConcept.has(concept)) byConcept.set(concept, document.scene);
  }
  const scenes = [...byConcept.values()];
  const spoken = scenes.filter((scene) => stream.canSpeak(scene));
  const silent = scenes.filter((scene) => !stream.canSpeak(scene));
  return [...spoken, ...silent].slice(0, wanted);
}
