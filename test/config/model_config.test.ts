import { describe, expect, test } from '@jest/globals';
import { defaultFfnDim, looksAhead, nativeModelConfig, parseModelConfig } from '../../lib/config/model_config.js';
import { MotError } from '../../lib/errors.js';

const BASE = { vocab: 512, d_model: 64, n_layers: 2, n_heads: 4, modalities: ['text', 'image', 'speech'] };

test('defaults are filled in, and parsing again changes nothing', () => {
  const config = parseModelConfig(BASE);
  expect(config).toEqual({
    ...BASE,
    n_kv_heads: 4,
    head_dim: 16,
    ffn_dim: 256,
    untied: { self_attn: true, mlp: true, final: true },
    norm_placement: 'branch_output',
    qk_norm: true,
    norm_eps: 1e-5,
    rope_theta: 10000,
    z_loss: 0,
    loss_weight: { text: 1, image: 1, speech: 1 },
  });
  expect(parseModelConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
});

test('the default ffn_dim is that of Llama', () => {
  expect([defaultFfnDim(64), defaultFfnDim(768), defaultFfnDim(4096)]).toEqual([256, 2048, 11008]);
});

test('untied and towers choose the weights of each modality', () => {
  const towers = { mlp: { text: 'words', image: 'signals', speech: 'signals' } };
  const native = nativeModelConfig(
    parseModelConfig({ ...BASE, untied: { self_attn: false }, towers, loss_weight: { image: 0.5 } }),
  );
  expect(native.selfAttn).toEqual({ names: ['shared'], towerOfModality: [0, 0, 0] });
  expect(native.mlp).toEqual({ names: ['words', 'signals'], towerOfModality: [0, 1, 1] });
  expect(native.final).toEqual({ names: ['text', 'image', 'speech'], towerOfModality: [0, 1, 2] });
  expect(native.lossWeight).toEqual([1, 0.5, 1]);
  expect(Object.hasOwn(native, 'norms')).toBe(false);
  const dense = nativeModelConfig(parseModelConfig({ ...BASE, untied: false }));
  expect([dense.selfAttn, dense.mlp, dense.final].every(({ names }) => names.join() === 'shared')).toBe(true);
});

test('norms of the branches may be untied, or tied, by themselves', () => {
  const config = parseModelConfig({ ...BASE, untied: { self_attn: false, norms: true } });
  expect(config.untied).toEqual({ self_attn: false, mlp: true, final: true, norms: true });
  expect(parseModelConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  expect(nativeModelConfig(config).norms).toEqual({ names: ['text', 'image', 'speech'], towerOfModality: [0, 1, 2] });
  const tied = nativeModelConfig(parseModelConfig({ ...BASE, untied: { norms: false } }));
  expect(tied.norms).toEqual({ names: ['shared'], towerOfModality: [0, 0, 0] });
  const towers = { norms: { text: 'words', image: 'signals', speech: 'signals' } };
  expect(nativeModelConfig(parseModelConfig({ ...BASE, towers })).norms).toEqual({
    names: ['words', 'signals'],
    towerOfModality: [0, 1, 1],
  });
});

test('experts: a number stands for expert choice with its defaults', () => {
  const four = { count: 4, routing: 'expert_choice', capacity_factor: 1, top_k: 1, balance_loss: 0.01 };
  const config = parseModelConfig({
    ...BASE,
    experts: { text: 4, image: { count: 8, routing: 'token_choice', top_k: 2 } },
  });
  expect(config.experts).toEqual({ text: four, image: { ...four, count: 8, routing: 'token_choice', top_k: 2 } });
  expect(parseModelConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  expect(nativeModelConfig(config).experts).toEqual([
    { count: 4, routing: 'expert_choice', capacityFactor: 1, topK: 1, balanceLoss: 0.01 },
    { count: 8, routing: 'token_choice', capacityFactor: 1, topK: 2, balanceLoss: 0.01 },
    { count: 0, routing: 'token_choice', capacityFactor: 1, topK: 1, balanceLoss: 0 },
  ]);
  expect([looksAhead(config), looksAhead(parseModelConfig(BASE))]).toEqual([true, false]);
  expect(parseModelConfig({ ...BASE, untied: false, experts: { shared: 4 } }).experts).toEqual({ shared: four });
  for (const none of [{}, null]) {
    const plain = parseModelConfig({ ...BASE, experts: none });
    expect(Object.hasOwn(plain, 'experts')).toBe(false);
    expect(Object.hasOwn(nativeModelConfig(plain), 'experts')).toBe(false);
  }
});

test('diffusion has the defaults of the paper', () => {
  const diffusion = { modality: 'image', patch_dim: 12, steps: 1000, weight: 5, prediction: 'noise' };
  const config = parseModelConfig({ ...BASE, diffusion: { patch_dim: 12 } });
  expect(config.diffusion).toEqual(diffusion);
  expect(parseModelConfig(config)).toEqual(config);
  expect(Object.hasOwn(parseModelConfig({ ...BASE, diffusion: null }), 'diffusion')).toBe(false);
});

describe('wrong configs are errors that say what to do', () => {
  test.each([
    [{ d_modle: 3 }, /unknown key d_modle; did you mean d_model\?/],
    [{ untied: { self_atn: true } }, /unknown key untied\.self_atn; did you mean untied\.self_attn|self_attn/],
    [{ vocab: undefined }, /vocab is missing/],
    [{ vocab: 0 }, /vocab must be at least 1/],
    [{ vocab: 1.5 }, /vocab must be a whole number/],
    [{ n_layers: '2' }, /n_layers must be a/],
    [{ n_heads: 3 }, /d_model 64 is not a multiple of n_heads 3/],
    [{ n_heads: 16 }, /head_dim must be a multiple of 8, got 4 \(d_model \/ n_heads\)/],
    [{ head_dim: 12 }, /head_dim must be a multiple of 8, got 12/],
    [{ n_kv_heads: 3 }, /n_heads must be a multiple of n_kv_heads, got 4 and 3/],
    [{ n_kv_heads: 8 }, /n_heads must be a multiple of n_kv_heads, got 4 and 8/],
    [{ modalities: [] }, /modalities must be at least 1/],
    [{ modalities: ['text', 'Image'] }, /modalities\[1\].*"Image" cannot name a modality/],
    [{ modalities: ['shared'] }, /"shared" cannot name a modality/],
    [{ modalities: ['../x'] }, /cannot name a modality/],
    [{ modalities: ['text', 'text'] }, /names "text" twice/],
    [{ norm_placement: 'post' }, /norm_placement must be "branch_output" or "pre"/],
    [{ norm_eps: 0 }, /norm_eps must be more than 0/],
    [{ z_loss: -1 }, /z_loss must be at least 0/],
    [{ rope_theta: Infinity }, /rope_theta/],
    [{ loss_weight: { video: 1 } }, /loss_weight names "video"/],
    [{ loss_weight: { text: -1 } }, /loss_weight\.text must be at least 0/],
    [{ diffusion: {} }, /diffusion\.patch_dim is missing/],
    [{ diffusion: { patch_dim: 0 } }, /diffusion\.patch_dim must be at least 1/],
    [{ diffusion: { patch_dim: 4, steps: 0 } }, /diffusion\.steps must be at least 1/],
    [{ diffusion: { patch_dim: 4, weight: -1 } }, /diffusion\.weight must be at least 0/],
    [{ diffusion: { patch_dim: 4, width: 1 } }, /unknown key diffusion\.width/],
    [{ diffusion: { patch_dim: 4, modality: 'video' } }, /diffusion\.modality is "video", which is none of text/],
    [{ diffusion: { patch_dim: 4 }, d_model: 65, head_dim: 8 }, /d_model must be even/],
    [{ experts: { video: 4 } }, /names the tower "video", which mlp does not have; it has text, image, speech/],
    [{ experts: { text: 4 }, untied: false }, /names the tower "text", which mlp does not have; it has shared/],
    [{ experts: { text: 0 } }, /experts\.text must be at least 1/],
    [{ experts: { text: 257 } }, /experts\.text must be at most 256/],
    [{ experts: { text: { count: 4, top_k: 5, routing: 'token_choice' } } }, /top_k must be at most count, 4, got 5/],
    [{ experts: { text: { count: 4, capacity_factor: 5 } } }, /capacity_factor must be at most count, 4, got 5/],
    [{ experts: { text: { count: 4, top_k: 2 } } }, /top_k is for token_choice/],
    [{ experts: { text: { count: 4, routing: 'token_choice', capacity_factor: 2 } } }, /capacity_factor is for expert/],
    [{ experts: { text: { count: 4, routing: 'choice' } } }, /routing must be "expert_choice" or "token_choice"/],
    [{ experts: { text: { count: 4, topk: 2 } } }, /unknown key experts\.text\.topk; did you mean top_k/],
    [{ towers: { mlp: { text: 'a' } } }, /towers\.mlp gives no tower to image/],
    [{ towers: { mlp: { text: 'a', image: 'a', speech: 'a', video: 'a' } } }, /towers\.mlp names "video"/],
    [{ towers: { mlp: { text: 'A', image: 'a', speech: 'a' } } }, /"A" cannot name a tower/],
  ])('%j', (change, message) => {
    const parse = (): unknown => parseModelConfig({ ...BASE, ...change });
    expect(parse).toThrow(MotError);
    expect(parse).toThrow(expect.objectContaining({ code: 'ERR_CONFIG', message: expect.stringMatching(message) }));
  });

  test.each([null, 3, 'text', []])('not a group of keys: %j', (value) => {
    expect(() => parseModelConfig(value)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG' }));
  });
});
