import type { Codecs } from '../modalities/codec.js';
import { encodeSegmentsAsync, splitSpans, type Segment, type Tokenizers } from '../modalities/registry.js';
import { modalityOfToken, type Vocabulary } from '../modalities/vocabulary.js';
import type { Model } from '../model/model.js';
import { generate, type NextTokens } from './generate.js';
import type { IdRange } from './sampler.js';
import type { SpanOptions } from './spans.js';

/** Options of {@link generateDocument}. */
export type DocumentOptions = Omit<SpanOptions, 'onSpan'>;

/**
 * Which tokens may follow in a whole document: in text its tokens, the end of the document, or the beginning of another
 * modality; in a span of that what its tokenizer allows. Tokens begin in text.
 */
export function documentGrammar(
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
): (generated: readonly number[]) => NextTokens {
  const [text, ...others] = vocabulary.modalities as [string, ...string[]];
  const one = (token: number): IdRange => [token, token + 1];
  const rangeOf = (modality: string): IdRange => {
    const { begin, end } = vocabulary.ranges[modality]!;
    return [begin, end];
  };
  const begins = new Map(others.map((modality) => [vocabulary.special[`<${modality}>`]!, modality]));
  const inText = [rangeOf(text), one(vocabulary.special['<eos>']!), ...[...begins.keys()].map(one)];
  const ends = new Set(others.map((modality) => vocabulary.special[`</${modality}>`]!));
  return (generated) => {
    for (let at = generated.length - 1; at >= 0 && !ends.has(generated[at]!); at--) {
      const modality = begins.get(generated[at]!);
      if (modality === undefined) continue;
      const { begin, end, mayEnd } = tokenizers[modality]!.rule(generated.length - 1 - at);
      const [first] = rangeOf(modality);
      return {
        allowed: [
          ...(begin < end ? [[first + begin, first + end] as const] : []),
          ...(mayEnd ? [one(vocabulary.special[`</${modality}>`]!)] : []),
        ],
      };
    }
    return { allowed: inText };
  };
}

/**
 * Goes on from each prompt to the end of its document, in whatever modalities the model chooses.
 *
 * @returns What was generated after each prompt: segments in reading order. The last one may be cut by `maxTokens`.
 * @throws MotError ERR_ARGUMENT, ERR_LIMIT, ERR_ABORTED.
 */
export async function generateDocument(
  model: Model,
  prompts: readonly (readonly Segment[])[],
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  { codecs = {}, ...options }: DocumentOptions,
): Promise<Segment[][]> {
  const latents: Float32Array[][] = prompts.map(() => []);
  const sequences = await generate(
    model,
    await Promise.all(prompts.map((segments) => encodeSegmentsAsync(segments, tokenizers, vocabulary, codecs))),
    {
      ...options,
      modalityOf: (token) => modalityOfToken(vocabulary, token),
      next: documentGrammar(tokenizers, vocabulary),
      stopTokens: [vocabulary.special['<eos>']!],
      onImage(latent, sequence) {
        latents[sequence]!.push(latent);
        options.onImage?.(latent, sequence);
      },
    },
  );
  return Promise.all(
    sequences.map(async (tokens, i) => {
      const segments: Segment[] = [];
      for (const { modality, ids } of splitSpans(tokens, vocabulary))
        segments.push((await decodeSpan(modality, ids, tokenizers, codecs, latents[i]!)) as Segment);
      return segments;
    }),
  );
}

/** A span's segment; of a continuous modality the next of the latents that were drawn. */
async function decodeSpan(
  modality: string,
  ids: readonly number[],
  tokenizers: Tokenizers,
  codecs: Codecs,
  latents: Float32Array[],
): Promise<Record<string, unknown>> {
  const codec = codecs[modality];
  return { [modality]: codec ? codec.decode(latents.shift()!) : await tokenizers[modality]!.decode(ids) };
}
