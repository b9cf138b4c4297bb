import { ImageTokenizer, type ImageTokenizerOptions } from '../../modalities/image/patch_codebook.js';
import { SpeechTokenizer, type SpeechTokenizerOptions } from '../../modalities/speech/speech_units.js';
import type { TensorSet } from '../../modalities/tensors.js';
import type { Picture, Sound } from '../../modalities/tokenizer.js';
import { serveTasks } from '../../threads/worker_tasks.js';
import type { Sprite } from './render.js';
import { encodeSprite, type SpriteCodes } from './sprite_codes.js';
import { Speaker } from './speech.js';

/** What the workers of `mot prepare emoji` do, by name: task and result are structured clones. */
export interface EmojiTasks {
  /** Speaks pieces of captions. */
  speak: { task: { flite: string; scratch: string; pieces: { text: string; voice: string }[] }; result: Sound[] };
  trainImage: { task: { pictures: Picture[]; options: ImageTokenizerOptions; threads: number }; result: TensorSet };
  trainSpeech: { task: { sounds: Sound[]; options: SpeechTokenizerOptions; threads: number }; result: TensorSet };
  /** Ids of sprites on every background. */
  encodeSprites: { task: { tokenizer: TensorSet; sprites: Sprite[] }; result: SpriteCodes[] };
  encodeSounds: { task: { tokenizer: TensorSet; sounds: Sound[] }; result: Int32Array[] };
}

serveTasks<EmojiTasks>({
  async speak({ flite, scratch, pieces }) {
    const speaker = await Speaker.open(flite, scratch);
    try {
      const sounds: Sound[] = [];
      for (const { text, voice } of pieces) sounds.push(await speaker.say(text, voice));
      return sounds;
    } finally {
      speaker.close();
    }
  },
  trainImage: async ({ pictures, options, threads }) =>
    (await ImageTokenizer.trainOnThreads(pictures, options, threads)).toTensors(),
  trainSpeech: async ({ sounds, options, threads }) =>
    (await SpeechTokenizer.trainOnThreads(sounds, options, threads)).toTensors(),
  encodeSprites({ tokenizer, sprites }) {
    const image = ImageTokenizer.fromTensors(tokenizer);
    return sprites.map((sprite) => encodeSprite(image, sprite));
  },
  encodeSounds({ tokenizer, sounds }) {
    const speech = SpeechTokenizer.fromTensors(tokenizer);
    return sounds.map((sound) => speech.encode(sound));
  },
});
