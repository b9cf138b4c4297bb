import { MotError } from '../errors.js';
import type { Document } from '../model/batch.js';
import type { Model } from '../model/model.js';
import type { Codecs } from '../modalities/codec.js';
import { encodeSegmentsAsync, type Segment, type Tokenizers } from '../modalities/registry.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import { modalityOfToken, type Vocabulary } from '../modalities/vocabulary.js';
import { generate, type GenerateOptions, type NextTokens } from './generate.js';

/** Options of {@link generateSpan}: those of {@link generate} that the span does not decide itself. */
export interface SpanOptions extends Omit<GenerateOptions, 'modalityOf' | 'next' | 'stopTokens'> {
  /** Called with the index of each prompt whose span is finished. */
  onSpan?: (index: number) => void;
  /** Codecs of continuous modalities, for prompts and results; `images` then says how theirs are drawn. Default: none. */
  codecs?: Codecs;
}

/**
 * A document's beginning as tokens: `<bos>`, the segments, and the token that begins a span of `output`, so that the
 * model goes on with that modality.
 */
export async function promptTokens(
  segments: readonly Segment[],
  output: string,
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  codecs: Codecs = {},
): Promise<Document> {
  const prompt: Document = await encodeSegmentsAsync(segments, tokenizers, vocabulary, codecs);
  if (output === 'text') return prompt;
  const begin = vocabulary.special[`<${output}>`];
  if (begin === undefined)
    throw new MotError(
      'ERR_ARGUMENT',
      `the model has no modality "${output}"; it has ${vocabulary.modalities.join(', ')}.`,
    );
  const { token, modality, patchRow } = prompt;
  return {
    ...prompt,
    token: [...Array.from(token), begin],
    modality: [...Array.from(modality), 0],
    ...(patchRow ? { patchRow: Int32Array.from([...patchRow, -1]) } : {}),
  };
}

/**
 * Which tokens may follow inside a span: those that the modality's tokenizer allows at this place, and its end token
 * where the span may end. A text span ends with `<eos>` or at the beginning of another span.
 *
 * @param least Tokens before the span may end, whatever the tokenizer says.
 */
export function spanGrammar(
  output: string,
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  least = 0,
): (generated: readonly number[]) => NextTokens {
  const range = vocabulary.ranges[output]!;
  const rule = tokenizers[output]!;
  const ends = endTokens(output, vocabulary);
  return (generated) => {
    const { begin, end, mayEnd } = rule.rule(generated.length);
    const allowed = begin < end ? [[range.begin + begin, range.begin + end] as const] : [];
    return {
      allowed:
        mayEnd && generated.length >= least
          ? [...allowed, ...ends.map((token) => [token, token + 1] as const)]
          : allowed,
    };
  };
}

/** Tokens that end a span of a modality. */
function endTokens(output: string, vocabulary: Vocabulary): number[] {
  if (output !== 'text') return [vocabulary.special[`</${output}>`]!];
  return [vocabulary.special['<eos>']!, ...vocabulary.modalities.slice(1).map((m) => vocabulary.special[`<${m}>`]!)];
}

/**
 * Generates one span of a modality after each prompt and decodes it.
 *
 * @param prompts Each a list of segments, in reading order.
 * @param output 'text', or another modality of the vocabulary.
 * @returns One string, picture, sound, or value of an own modality a prompt.
 * @throws MotError ERR_ARGUMENT, ERR_LIMIT, ERR_ABORTED.
 * @example
 * const [picture] = await generateSpan(model, [[{ text: 'noto red heart on blue' }]], 'image', tokenizers, vocabulary, { maxTokens: 200 });
 */
export async function generateSpan(
  model: Model,
  prompts: readonly (readonly Segment[])[],
  output: string,
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  options: SpanOptions,
): Promise<(string | Picture | Sound)[]> {
  const codec = options.codecs?.[output];
  if (codec) {
    const latents = await generateLatents(model, prompts, output, tokenizers, vocabulary, options);
    return latents.map((latent) => codec.decode(latent) as Picture);
  }
  const spans = await generateSpanIds(model, prompts, output, tokenizers, vocabulary, options);
  // A module's decoder may give a promise.
  return Promise.all(spans.map(async (ids) => (await tokenizers[output]!.decode(ids)) as string | Picture | Sound));
}

/** As {@link generateSpan}, but gives the spans as local ids of the modality, not decoded. */
export async function generateSpanIds(
  model: Model,
  prompts: readonly (readonly Segment[])[],
  output: string,
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  options: SpanOptions,
): Promise<number[][]> {
  if (!tokenizers[output])
    throw new MotError(
      'ERR_ARGUMENT',
      `cannot generate "${output}": the model has ${vocabulary.modalities.join(', ')}.`,
    );
  const { onSpan, onToken, codecs = {}, ...rest } = options;
  const stopTokens = endTokens(output, vocabulary);
  const stop = new Set(stopTokens);
  const lengths = prompts.map(() => 0);
  // Text that goes on from text may be at its end already. Elsewhere it was asked for, so it is not left out, although
  // the model may find that speech comes first just as likely.
  const mayBeEmpty = spanGrammar(output, tokenizers, vocabulary);
  const notEmpty = spanGrammar(output, tokenizers, vocabulary, 1);
  const grammars = prompts.map((segments) =>
    output !== 'text' || 'text' in (segments.at(-1) ?? {}) ? mayBeEmpty : notEmpty,
  );
  const sequences = await generate(
    model,
    await Promise.all(prompts.map((segments) => promptTokens(segments, output, tokenizers, vocabulary, codecs))),
    {
      ...rest,
      modalityOf: (token) => modalityOfToken(vocabulary, token),
      next: (generated, sequence) => grammars[sequence]!(generated),
      stopTokens,
      onToken(token, sequence) {
        onToken?.(token, sequence);
        if (stop.has(token) || ++lengths[sequence]! === rest.maxTokens) onSpan?.(sequence);
      },
    },
  );
  const { begin } = vocabulary.ranges[output]!;
  return sequences.map((sequence) => sequence.filter((token) => !stop.has(token)).map((token) => token - begin));
}

/** Draws one span of a continuous modality after each prompt; its latents. */
async function generateLatents(
  model: Model,
  prompts: readonly (readonly Segment[])[],
  output: string,
  tokenizers: Tokenizers,
  vocabulary: Vocabulary,
  options: SpanOptions,
): Promise<Float32Array[]> {
  const { onSpan, codecs = {}, images, ...rest } = options;
  if (images?.modality.name !== output)
    throw new MotError(
      'ERR_ARGUMENT',
      `${output} is continuous: give \`images\`, which says how it is drawn (openRun does).`,
    );
  const latents: Float32Array[] = [];
  await generate(
    model,
    await Promise.all(prompts.map((segments) => promptTokens(segments, output, tokenizers, vocabulary, codecs))),
    {
      ...rest,
      images,
      maxTokens: images.patches,
      onImage(latent, sequence) {
        latents[sequence] = latent;
        rest.onImage?.(latent, sequence);
        onSpan?.(sequence);
      },
    },
  );
  return latents;
}
