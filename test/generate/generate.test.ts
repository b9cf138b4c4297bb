import { describe, expect, test } from '@jest/globals';
import { generate } from '../../lib/generate/generate.js';
import type { Document } from '../../lib/model/batch.js';
import { Model } from '../../lib/model/model.js';

const config = {
  vocab: 37,
  d_model: 32,
  n_layers: 2,
  n_heads: 4,
  n_kv_heads: 2,
  head_dim: 8,
  ffn_dim: 48,
  modalities: ['text', 'image'],
};
const modalityOf = (token: number) => (token >= 20 ? 1 : 0);
const document = (token: number[]): Document => ({ token, modality: token.map(modalityOf) });
const prompts = [document([0, 5, 21, 22, 7]), document([3]), document([0, 30, 31, 2, 9, 12, 25, 1])];

/** The likeliest continuation, each token from a forward pass over the whole sequence. */
async function greedy(model: Model, prompt: Document, count: number): Promise<number[]> {
  const tokens = Array.from(prompt.token);
  for (let k = 0; k < count; k++) {
    const n = tokens.length;
    const batch = {
      token: Int32Array.from(tokens),
      modality: Int32Array.from(tokens, modalityOf),
      position: Int32Array.from(tokens, (_, i) => i),
      kvStart: new Int32Array(n),
      kvEnd: Int32Array.from(tokens, (_, i) => i + 1),
    };
    const logits = await model.forward(batch, Int32Array.of(n - 1), 'logits');
    tokens.push(logits.indexOf(Math.max(...logits)));
  }
  return tokens.slice(prompt.token.length);
}

describe('generate', () => {
  test('with the cache, side by side and in pieces, gives what whole forward passes give', async () => {
    await using model = await Model.create(config, { tokens: 32, kv_slots: 40, positions: 32, seed: 3 });
    const expected = await Promise.all(prompts.map((prompt) => greedy(model, prompt, 8)));
    // 40 slots hold two sequences of 16, so the third comes in a second group; 4 tokens a call cut the prefill.
    await using small = await Model.create(config, { tokens: 4, kv_slots: 40, positions: 32, seed: 3 });
    for (const generator of [model, small]) {
      const tokens = await generate(generator, prompts, { maxTokens: 8, temperature: 0, modalityOf });
      expect(tokens).toEqual(expected);
    }
  });

  test('draws depend on seed and sequence alone, not on how sequences are put together', async () => {
    await using wide = await Model.create(config, { tokens: 32, kv_slots: 64, positions: 32, seed: 3 });
    await using narrow = await Model.create(config, { tokens: 32, kv_slots: 16, positions: 32, seed: 3 });
    const options = { maxTokens: 8, modalityOf, seed: 11 };
    const drawn = await generate(wide, prompts, options);
    expect(await generate(narrow, prompts, options)).toEqual(drawn);
    expect(await generate(wide, prompts, { ...options, seed: 12 })).not.toEqual(drawn);
  });

  test('keeps to the tokens that are allowed, and stops', async () => {
    await using model = await Model.create(config, { tokens: 32, kv_slots: 64, positions: 32 });
    const seen: [number, number][] = [];
    const [tokens] = await generate(model, [prompts[0]!], {
      maxTokens: 20,
      modalityOf,
      next: (generated) => ({ allowed: generated.length < 3 ? [[20, 25]] : [[1, 2]] }),
      stopTokens: [1],
      onToken: (token, sequence) => seen.push([token, sequence]),
    });
    expect(tokens).toHaveLength(4);
    expect(tokens!.slice(0, 3).every((token) => token >= 20 && token < 25)).toBe(true);
    expect(tokens![3]).toBe(1);
    expect(seen).toEqual(tokens!.map((token) => [token, 0]));
  });

  test('experts: token choice generates what forward gives; expert choice refuses, or approximates', async () => {
    const options = { tokens: 32, kv_slots: 64, positions: 32, seed: 3 };
    const causal = { ...config, experts: { text: { count: 4, routing: 'token_choice' as const, top_k: 2 } } };
    await using model = await Model.create(causal, options);
    const expected = await Promise.all(prompts.map((prompt) => greedy(model, prompt, 6)));
    expect(await generate(model, prompts, { maxTokens: 6, temperature: 0, modalityOf })).toEqual(expected);

    const ahead = { ...config, experts: { text: { count: 4, capacity_factor: 2 } } };
    await using refuses = await Model.create(ahead, options);
    await expect(generate(refuses, prompts, { maxTokens: 6, modalityOf })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/expert choice.*later.*token_choice.*approximate_routing/),
    });
    // The same weights with the same two experts a token.
    await using approximates = await Model.create(ahead, { ...options, approximate_routing: true });
    expect(await generate(approximates, prompts, { maxTokens: 6, temperature: 0, modalityOf })).toEqual(expected);
  });

  test('says what is over the limits, and stops on a signal', async () => {
    await using model = await Model.create(config, { tokens: 8, kv_slots: 8, positions: 8 });
    await expect(generate(model, prompts, { maxTokens: 8 })).rejects.toMatchObject({ code: 'ERR_LIMIT' });
    await expect(generate(model, [document([])], { maxTokens: 1 })).rejects.toMatchObject({ code: 'ERR_ARGUMENT' });
    const signal = AbortSignal.abort();
    await expect(generate(model, [prompts[1]!], { maxTokens: 2, signal })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    });
  });
});
