import { describe, expect, test } from '@jest/globals';
import { parseConfigText } from '../../lib/config/file.js';
import { parseModelConfig, type ModelConfigInput } from '../../lib/config/model_config.js';
import { findPreset, presetHint, PRESET_VARIANTS, PRESETS } from '../../lib/config/presets.js';
import { modelOfRun, parseRunConfig, readPreset } from '../../lib/config/run_config.js';
import { trainConfigSchema } from '../../lib/config/train_config.js';
import { Model } from '../../lib/model/model.js';
import { parameterCount, type ParameterCount } from '../../lib/model/parameters.js';

function modelOf(name: string): ModelConfigInput {
  return { vocab: 2530, modalities: ['text', 'image', 'speech'], ...findPreset(name)!.model };
}

/** Weights in millions without norms and routers, which the paper's table leaves out; they are a few ten-thousandths. */
function counted(config: ModelConfigInput): { count: ParameterCount; millions: number; nonEmbedding: number } {
  const described = Model.describe(config, { tokens: 64, positions: 64 });
  const count = parameterCount(described.config, described.tensors);
  const matrices = described.tensors.filter(({ name, shape }) => shape.length === 2 && !name.includes('.router.'));
  const weights = matrices.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  expect(count.total / weights).toBeLessThan(1.001);
  const nonEmbedding = (weights - count.embedding - count.head) / 1e6;
  return { count, millions: Math.round(weights / 1e6), nonEmbedding };
}

describe('parameters of every size, in millions, are those of the paper', () => {
  // Non-embedding, dense, MoT of two modalities, MoT of three, MoE-4x; feed-forward width.
  test.each([
    ['37m', '3.4', 37, 40, 44, 44, 768],
    ['94m', '27.3', 94, 122, 149, 151, 1536],
    ['443m', '308', 442, 751, 1059, 1065, 2816],
    ['880m', '679', 881, 1560, 2240, 2240, 4096],
    ['1.5b', '1233', 1502, 2735, 3968, 3993, 5632],
    ['7b', '6476', 7013, 13489, 19965, 19998, 11008],
  ])('%s', (size, nonEmbedding, dense, two, three, experts, ffn) => {
    // Where one of the settings has no such size, the other's is taken.
    const name = [`chameleon-${size}`, `chameleon-speech-${size}`].find((each) => PRESETS.includes(each))!;
    const baseline = counted(modelOf(`${name}-dense`));
    expect(baseline.millions).toBe(dense);
    expect(baseline.nonEmbedding.toFixed(nonEmbedding.includes('.') ? 1 : 0)).toBe(nonEmbedding);
    const ofModalities = (...modalities: string[]): ParameterCount => {
      const model = { ...modelOf(`${name}-mot`), modalities };
      expect(parseModelConfig(model).ffn_dim).toBe(ffn);
      const { count, millions } = counted(model);
      expect(millions).toBe(modalities.length === 2 ? two : three);
      return count;
    };
    const mixture = counted(modelOf(`${name}-moe-4x`));
    expect(mixture.millions).toBe(experts);
    // The router is met, too.
    const { d_model, n_layers } = modelOf(name);
    expect(mixture.count.active['image']).toBe(baseline.count.total + 4 * d_model * n_layers);
    for (const { active } of [ofModalities('text', 'image'), ofModalities('text', 'image', 'speech')])
      // As many weights meet a token as in the dense model.
      expect(new Set(Object.values(active))).toEqual(new Set([baseline.count.total]));
  });
});

test('every preset is a valid model and a valid training', () => {
  for (const name of PRESETS)
    for (const variant of PRESET_VARIANTS) {
      const preset = findPreset(`${name}-${variant}`)!;
      expect(preset).toMatchObject({ name, variant });
      parseModelConfig(modelOf(`${name}-${variant}`));
      trainConfigSchema.parse(preset.train);
    }
});

test('the batches of the paper', () => {
  const tokens = (name: string): number => {
    const { sequences, seq_len } = findPreset(name)!.train;
    return Math.round((sequences! * seq_len!) / 1e4) / 100;
  };
  expect(['chameleon-37m', 'chameleon-94m', 'chameleon-1.5b', 'chameleon-speech-7b'].map(tokens)).toEqual([
    1.57, 1.05, 2.1, 3.15,
  ]);
});

test('the optimisers of the papers', () => {
  expect(findPreset('chameleon-94m')!.train).toMatchObject({
    lr: 1e-4,
    schedule: 'exponential',
    warmup_steps: 4000,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-5,
    weight_decay: 0.1,
    clip: 1,
    steps: 160_000,
  });
  const { lr, min_lr_ratio, schedule, eps, steps } = findPreset('transfusion-760m')!.train;
  expect([lr, lr! * min_lr_ratio!, schedule, eps, steps]).toEqual([3e-4, 3e-4 * 0.05, 'cosine', 1e-8, 250_000]);
});

test('a name without a variant means mot', () => {
  expect(findPreset('chameleon-443m')).toEqual(findPreset('chameleon-443m-mot'));
  expect(findPreset('chameleon-443m-dense')!.model).toMatchObject({ untied: false });
  for (const name of ['chameleon', 'chameleon-443m-', 'chameleon-443m-moe', 'chameleon-880m', '-mot', 'mot', ''])
    expect(findPreset(name)).toBeUndefined();
});

test('a hybrid has experts for text alone', () => {
  const { count } = counted(modelOf('emoji-small-hybrid'));
  const { count: mot } = counted(modelOf('emoji-small'));
  expect(count.towers['image']).toEqual(mot.towers['image']);
  expect(count.towers['text']!.mlp).toBe(4 * 4 * 3 * 192 * 512 + 4 * (4 * 192) + 4 * 192);
  expect(count.active['text']).toBe(mot.active['text']! + 4 * (4 * 192));
});

test('a preset cannot be altered through what it gives', () => {
  findPreset('chameleon-37m')!.model.modalities!.push('speech');
  expect(findPreset('chameleon-37m')!.model.modalities).toEqual(['text', 'image']);
});

describe('in a run config', () => {
  const parse = (text: string): ReturnType<typeof parseRunConfig> =>
    parseRunConfig(parseConfigText(text, 'c.yaml'), 'runs/c');

  test('stands for its keys, under those that are given; ids and modalities follow from the data', () => {
    const config = parse(`
model: { preset: chameleon-443m-dense, n_layers: 2 }
train: { preset: chameleon-443m, lr: 0.01, sequences: 2 }`);
    expect(config.model).toEqual({ d_model: 1024, n_layers: 2, n_heads: 16, untied: false, z_loss: 1e-5 });
    expect(config.train).toMatchObject({ lr: 0.01, sequences: 2, seq_len: 4096, eps: 1e-5, schedule: 'exponential' });
    const model = modelOfRun(config, { size: 100, modalities: ['text', 'image', 'speech'] });
    expect(model).toMatchObject({ vocab: 100, modalities: ['text', 'image', 'speech'], ffn_dim: 2816 });
    // What is resolved names no preset, so a later version's presets do not change it.
    expect(JSON.stringify(config)).not.toContain('preset');
  });

  test('diffusion follows from the data, too', () => {
    const config = parse(
      'model: { preset: transfusion-163m, diffusion: { weight: 2 } }\ndata: {prepare: {latents: {}}}',
    );
    const data = { size: 50, modalities: ['text', 'image'], continuous: { image: 48 } };
    expect(modelOfRun(config, data).diffusion).toEqual({
      modality: 'image',
      patch_dim: 48,
      steps: 1000,
      weight: 2,
      prediction: 'noise',
    });
    expect(readPreset('transfusion-163m', ['model.diffusion.steps=50']).model['diffusion']).toEqual({ steps: 50 });
  });

  test('overrides go over the preset of a name', () => {
    const config = readPreset('emoji-small', ['model.untied.mlp=false', 'train.steps=70']);
    expect(modelOfRun(config, { size: 9, modalities: ['a', 'b'] }).untied).toEqual({
      self_attn: true,
      mlp: false,
      final: true,
    });
    expect(config.train).toMatchObject({ steps: 70, sequences: 16, seq_len: 512 });
  });

  test.each([
    ['model: {preset: chameleon-443}', /c\.yaml:1: model\.preset: there is no preset "chameleon-443"; did you mean/],
    ['model: {}\ntrain:\n  preset: 7', /c\.yaml:3: train\.preset: there is no preset 7/],
    ['model: {preset: [emoji-small]}', /model\.preset: there is no preset \["emoji-small"\]/],
    ['model: {preset: emoji-small, d_modle: 8}', /unknown key d_modle; did you mean d_model\?/],
  ])('%j', (text, message) => {
    expect(() => parse(text)).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: expect.stringMatching(message) }),
    );
  });
});

test('a misspelt name is answered with the nearest', () => {
  expect(presetHint('chamelon-7b-dense')).toContain('did you mean chameleon-7b-dense?');
  expect(presetHint('zzz')).toBe('`mot describe` lists them');
});
