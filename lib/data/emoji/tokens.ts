import { joinSpans, type Span, type TokenSequence } from '../../modalities/document.js';
import type { TextTokenizer } from '../../modalities/text/bpe.js';
import type { Vocabulary } from '../../modalities/vocabulary.js';
import type { EmojiOptions } from './options.js';
import { clipKey, type PictureParts, type SpeechParts } from './pieces.js';
import type { EmojiDocument } from './scene.js';

/** Turns documents into tokens and latents by stringing together the ids of their pieces. */
export class DocumentEncoder {
  readonly #options: EmojiOptions;
  readonly #glosses: readonly string[];
  readonly #text: TextTokenizer;
  readonly #pictures: PictureParts;
  readonly #speech: SpeechParts | undefined;
  readonly #vocabulary: Vocabulary;

  constructor(
    options: EmojiOptions,
    glosses: readonly string[],
    text: TextTokenizer,
    pictures: PictureParts,
    speech: SpeechParts | undefined,
    vocabulary: Vocabulary,
  ) {
    this.#options = options;
    this.#glosses = glosses;
    this.#text = text;
    this.#pictures = pictures;
    this.#speech = speech;
    this.#vocabulary = vocabulary;
  }

  encode(document: EmojiDocument): TokenSequence {
    return joinSpans(this.#spans(document), this.#vocabulary, true);
  }

  #spans(document: EmojiDocument): Span[] {
    if (document.kind === 'gloss') return [this.#textSpan(this.#glosses[document.gloss]!)];
    const { scene, caption, order, voice } = document;
    return order.map((kind) => {
      if (kind === 'T') return this.#textSpan(caption.join(' '));
      if (kind === 'S') return { modality: 'speech', ids: this.#units(caption, this.#options.voices[voice]!) };
      return this.#pictures.span(scene);
    });
  }

  #textSpan(text: string): Span {
    return { modality: 'text', ids: this.#text.encode(text) };
  }

  #units(caption: readonly string[], voice: string): number[] {
    return joinUnits(caption.map((text) => this.#speech!.units.get(clipKey(voice, text))!));
  }
}

/** Units of clips one after the other; a unit that goes on, across a joint too, is one. */
export function joinUnits(clips: Iterable<Iterable<number>>): number[] {
  const units: number[] = [];
  for (const clip of clips) for (const unit of clip) if (unit !== units.at(-1)) units.push(unit);
  return units;
}
