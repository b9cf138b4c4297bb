import { MotError } from '../errors.js';
import type { Batch, Document } from '../model/batch.js';
import type { Model } from '../model/model.js';
import { randomKey, randomUniform } from '../modalities/random.js';
import { checkSampling, sampleToken, type IdRange, type SamplingOptions } from './sampler.js';

/** What may follow the tokens of a sequence, or that it is finished. */
export type NextTokens = { allowed: readonly IdRange[] } | { stop: true };

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to add to each prompt. */
  maxTokens: number;
  /** Index of the modality of a token id. Default: modality 0 for every token. */
  modalityOf?: (token: number) => number;
  /** Which tokens may follow, given those generated so far. Default: any token of the vocabulary. */
  next?: (generated: readonly number[], sequence: number) => NextTokens;
  /** Tokens that end a sequence; they are part of the result. Default: none. */
  stopTokens?: readonly number[];
  /** Sequence s draws from (seed, s). Default 0. */
  seed?: number;
  /** Called with every token as it is drawn. */
  onToken?: (token: number, sequence: number) => void;
  signal?: AbortSignal;
}

/** One sequence in the making. */
interface Sequence {
  index: number;
  /** First slot of its part of the KV cache. */
  slot: number;
  /** Tokens in the cache: the position of the next one. */
  length: number;
  generated: number[];
  random: ReturnType<typeof randomKey>;
}

/**
 * Continues prompts with a KV cache, all of them side by side in batches of what the cache holds. The model must have been
 * created with `kv_slots` of at least the longest prompt + maxTokens, and as many `positions`.
 *
 * @returns The new tokens of each prompt.
 * @throws MotError ERR_ARGUMENT, ERR_LIMIT, ERR_ABORTED.
 * @example
 * const [tokens] = await generate(model, [{ token: [0, 5, 7], modality: [0, 0, 0] }], { maxTokens: 20, topK: 50 });
 */
export async function generate(
  model: Model,
  prompts: readonly Document[],
  options: GenerateOptions,
): Promise<number[][]> {
  const { maxTokens } = options;
  checkSampling(options);
  if (!(Number.isInteger(maxTokens) && maxTokens >= 0))
    throw new MotError('ERR_ARGUMENT', `maxTokens must be a whole number of at least 0, got ${maxTokens}.`);
  const longest = prompts.reduce((most, prompt) => Math.max(most, prompt.token.length), 0);
  if (prompts.some((prompt) => prompt.token.length === 0))
    throw new MotError('ERR_ARGUMENT', 'a prompt needs at least one token; begin a document with its <bos> token.');
  const room = longest + maxTokens;
  const { kv_slots: slots, positions, tokens } = model.limits;
  if (room > slots || room > positions)
    throw new MotError(
      'ERR_LIMIT',
      `a prompt of ${longest} tokens and ${maxTokens} new ones need kv_slots and positions of at least ${room}; ` +
        `the model was created with kv_slots ${slots} and positions ${positions}.`,
    );
  if (room === 0) return prompts.map(() => []);
  const atOnce = Math.min(Math.floor(slots / room), tokens);
  const results: number[][] = [];
  for (let first = 0; first < prompts.length; first += atOnce) {
    const group = prompts.slice(first, first + atOnce);
    results.push(...(await generateGroup(model, group, first, room, options)));
  }
  return results;
}

async function generateGroup(
  model: Model,
  prompts: readonly Document[],
  first: number,
  room: number,
  options: GenerateOptions,
): Promise<number[][]> {
  const { modalityOf = () => 0, maxTokens, seed = 0, stopTokens = [], signal } = options;
  const next = options.next ?? (() => ({ allowed: [[0, model.config.vocab]] as const }));
  const sampling = checkSampling(options);
  const stop = new Set(stopTokens);
  const call = signal ? { signal } : {};
  const sequences: Sequence[] = prompts.map((_, s) => ({
    index: first + s,
    slot: s * room,
    length: 0,
    generated: [],
    random: randomKey(seed, `generate/${first + s}`),
  }));

  // Draws the next token of each sequence from its row of logits; gives those that go on, with their new tokens.
  const draw = (active: Sequence[], logits: Float32Array): [Sequence, number][] => {
    const vocab = model.config.vocab;
    const goingOn: [Sequence, number][] = [];
    active.forEach((sequence, row) => {
      const choice = next(sequence.generated, sequence.index);
      if ('stop' in choice) return;
      const uniform = randomUniform(sequence.random, sequence.generated.length);
      const token = sampleToken(logits.subarray(row * vocab, (row + 1) * vocab), choice.allowed, sampling, uniform);
      sequence.generated.push(token);
      options.onToken?.(token, sequence.index);
      if (!stop.has(token) && sequence.generated.length < maxTokens) goingOn.push([sequence, token]);
    });
    return goingOn;
  };

  if (maxTokens === 0) return prompts.map(() => []);
  // Prefill one prompt at a time, in pieces of what one call takes.
  let active: [Sequence, number][] = [];
  for (const [s, prompt] of prompts.entries()) {
    const sequence = sequences[s]!;
    let logits: Float32Array = new Float32Array(0);
    while (sequence.length < prompt.token.length) {
      const begin = sequence.length;
      const count = Math.min(model.limits.tokens, prompt.token.length - begin);
      const piece = Array.from({ length: count }, (_, i) => ({
        sequence,
        token: prompt.token[begin + i]!,
        modality: prompt.modality[begin + i]!,
      }));
      logits = await model.decode(cacheBatch(piece), Int32Array.of(count - 1), call);
    }
    active.push(...draw([sequence], logits));
  }
  // Decode one token of every unfinished sequence a call.
  while (active.length > 0) {
    const batch = cacheBatch(active.map(([sequence, token]) => ({ sequence, token, modality: modalityOf(token) })));
    const rows = Int32Array.from(active, (_, i) => i);
    const logits = await model.decode(batch, rows, call);
    active = draw(
      active.map(([sequence]) => sequence),
      logits,
    );
  }
  return sequences.map((sequence) => sequence.generated);
}

/** A batch that appends tokens to their sequences' parts of the cache; ascending in slots. */
function cacheBatch(tokens: { sequence: Sequence; token: number; modality: number }[]): Batch & { slot: Int32Array } {
  const n = tokens.length;
  const batch = {
    token: new Int32Array(n),
    modality: new Int32Array(n),
    position: new Int32Array(n),
    kvStart: new Int32Array(n),
    kvEnd: new Int32Array(n),
    slot: new Int32Array(n),
  };
  tokens.forEach(({ sequence, token, modality }, i) => {
    const slot = sequence.slot + sequence.length;
    batch.token[i] = token;
    batch.modality[i] = modality;
    batch.position[i] = sequence.length++;
    batch.kvStart[i] = sequence.slot;
    batch.kvEnd[i] = slot + 1;
    batch.slot[i] = slot;
  });
  return batch;
}
