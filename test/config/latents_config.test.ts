import { describe, expect, test } from '@jest/globals';
import { modelOfRun, parseRunConfig } from '../../lib/config/run_config.js';
import { vocabularyOf } from '../../lib/train/prepared.js';

describe('configs with latents', () => {
  const parse = (value: Record<string, unknown>) => parseRunConfig({ value, where: () => '' }, 'out');
  const model = { d_model: 64, n_layers: 1, n_heads: 2 };
  const latents = { prepare: { latents: {} } };
  const vocabulary = vocabularyOf(parse({ model, data: latents }));

  test('modality and width of patches follow from the data', () => {
    expect(vocabulary).toMatchObject({ modalities: ['text', 'image'], continuous: { image: 48 } });
    const config = parse({ model: { ...model, diffusion: { weight: 2 } }, data: latents });
    expect(modelOfRun(config, vocabulary).diffusion).toEqual({
      modality: 'image',
      patch_dim: 48,
      steps: 1000,
      weight: 2,
      prediction: 'noise',
    });
    expect(modelOfRun(parse({ model, data: latents }), vocabulary).diffusion).toMatchObject({ patch_dim: 48 });
    expect(modelOfRun(parse({ model, data: latents }), { ...vocabulary, continuous: {} }).diffusion).toBeUndefined();
  });

  test.each<[string, Record<string, unknown>, Record<string, unknown>, RegExp]>([
    ['another width than the latents', { diffusion: { patch_dim: 40 } }, latents, /patch_dim is 40.*48 wide/],
    ['another modality', { diffusion: { modality: 'text' } }, latents, /modality is "text".*image/],
    ['diffusion of discrete data', { diffusion: {} }, {}, /no continuous modality/],
    ['what is no group of keys', { diffusion: true }, latents, /diffusion/],
    ['a patch that does not tile', {}, { prepare: { latents: { patch_size: 5 } } }, /patch_size.*divisor/],
    [
      'a timestep out of range',
      { diffusion: { steps: 500 } },
      { ...latents, diffusion: { max_timestep_image_first: 500 } },
      /max_timestep_image_first is 500.*0 to 499/,
    ],
    ['an unknown mask', {}, { ...latents, diffusion: { image_mask: 'bidirectionall' } }, /did you mean bidirectional/],
  ])('%s is refused', (_, part, data, message) => {
    const refused = () => parse({ model: { ...model, ...part }, data });
    expect(refused).toThrow(message);
    expect(refused).toThrow(expect.objectContaining({ code: 'ERR_CONFIG' }));
  });
});
