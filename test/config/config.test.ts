import { describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { applyOverrides, parseConfigText, readConfigFile } from '../../lib/config/file.js';
import { nearest } from '../../lib/config/nearest.js';
import { parseWith } from '../../lib/config/parse.js';
import { readPreset, readRunConfig } from '../../lib/config/run_config.js';
import { trainConfigSchema } from '../../lib/config/train_config.js';
import { MotError } from '../../lib/errors.js';

function errorOf(action: () => unknown): MotError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(MotError);
    return error as MotError;
  }
  throw new Error('nothing was thrown');
}

const schema = z.strictObject({
  model: z.strictObject({ d_model: z.int().default(64), modalities: z.array(z.string()).optional() }).prefault({}),
  train: trainConfigSchema.prefault({}),
});

describe('nearest', () => {
  test.each([
    ['warmup_step', 'warmup_steps'],
    ['warmupSteps', 'warmup_steps'],
    ['setps', 'steps'],
    ['LR', 'lr'],
    ['zzzzzzzz', undefined],
  ])('%s -> %s', (word, expected) => {
    expect(nearest(word, Object.keys(trainConfigSchema.in.shape))).toBe(expected);
  });
});

describe('parseWith', () => {
  test('fills in every default', () => {
    const { train } = parseWith(schema, {}, 'config');
    expect(train).toMatchObject({
      steps: 1000,
      sequences: 16,
      micro_sequences: 16,
      beta1: 0.9,
      beta2: 0.95,
      dtype: 'bf16',
    });
  });

  test.each([
    [{ train: { warmup_step: 3 } }, 'unknown key train.warmup_step; did you mean warmup_steps?'],
    [{ trian: {} }, 'unknown key trian; did you mean train?'],
    [{ model: { qqqqqqqqqqq: 1 } }, 'unknown key model.qqqqqqqqqqq; known keys: d_model, modalities'],
    [{ train: { steps: 0 } }, 'train.steps must be at least 1, got 0'],
    [{ train: { lr: 0 } }, 'train.lr must be more than 0, got 0'],
    [{ train: { steps: 1.5 } }, 'train.steps must be a whole number, got 1.5'],
    [{ train: { lr: 'fast' } }, 'train.lr must be a number, got "fast"'],
    [{ train: { dtype: 'bf61' } }, 'train.dtype must be "bf16" or "f32", got "bf61"; did you mean bf16?'],
    [{ train: null }, 'train must be a group of keys, got null'],
    [{ model: { modalities: ['text', 3] } }, 'model.modalities[1] must be a text, got 3'],
    [{ train: { sequences: 6, micro_sequences: 4 } }, '6 sequences do not divide into micro-batches of 4'],
    [{ train: { steps: 10, warmup_steps: 20 } }, 'a warm-up of 20 steps is longer than the run of 10'],
    [{ train: { schedule: 'cosin' } }, 'or "wsd", got "cosin"; did you mean cosine?'],
    [{ train: { schedule: 'exponential', min_lr_ratio: 0 } }, 'an exponential schedule never reaches 0'],
    [{ train: { decay_share: 0 } }, 'train.decay_share must be more than 0, got 0'],
  ])('%j', (value, sentence) => {
    const error = errorOf(() => parseWith(schema, value, 'config'));
    expect(error.code).toBe('ERR_CONFIG');
    expect(error.message).toContain(sentence);
  });

  test('tells all that is wrong at once', () => {
    const { message } = errorOf(() => parseWith(schema, { train: { stpes: 1, lr: -1 }, x: 1 }, 'config'));
    expect(message).toMatch(/train\.stpes/);
    expect(message).toMatch(/train\.lr/);
    expect(message).toMatch(/unknown key x/);
  });
});

describe('config files', () => {
  const yaml = 'model:\n  d_model: 32\ntrain:\n  # a comment\n  stpes: 3\n';

  test('errors carry the line', () => {
    const source = parseConfigText(yaml, 'a.yaml');
    const { message } = errorOf(() => parseWith(schema, source.value, 'run config', { where: source.where }));
    expect(message).toContain('a.yaml:5: unknown key train.stpes; did you mean steps?');
  });

  test('a broken file says where', () => {
    expect(errorOf(() => parseConfigText('a: [1, 2\nb: 3', 'a.yaml')).message).toMatch(
      /^a\.yaml:2:\d+: not valid YAML/,
    );
    expect(errorOf(() => parseConfigText('a: 1\na: 2', 'a.yaml')).message).toMatch(/^a\.yaml:2:1: .*unique/);
    expect(errorOf(() => parseConfigText('[1]', 'a.yaml')).message).toContain('must hold keys');
  });

  test('JSON and YAML give the same', () => {
    const folder = mkdtempSync(join(tmpdir(), 'mot-config-'));
    try {
      writeFileSync(join(folder, 'a.json'), '{"model": {"d_model": 32}}');
      writeFileSync(join(folder, 'a.yaml'), 'model: {d_model: 32}\n');
      expect(readConfigFile(join(folder, 'a.json')).value).toEqual(readConfigFile(join(folder, 'a.yaml')).value);
      expect(errorOf(() => readConfigFile(join(folder, 'no.yaml'))).code).toBe('ERR_FILE_OPEN');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('batch_tokens', () => {
  const train = (value: object): z.output<typeof trainConfigSchema> => parseWith(schema, { train: value }, 'c').train;

  test.each([
    [8192, 16],
    [8000, 16],
    [7935, 15],
    [1, 1],
  ])('%d tokens of 512 a sequence are %d sequences', (batch_tokens, sequences) => {
    const resolved = train({ batch_tokens, seq_len: 512 });
    expect(resolved).toMatchObject({ sequences, micro_sequences: sequences });
    // What a run writes down can be read again.
    expect(resolved).not.toHaveProperty('batch_tokens');
    expect(train(resolved)).toEqual(resolved);
  });

  test('micro-batches divide it', () => {
    expect(train({ batch_tokens: 8192, seq_len: 512, micro_sequences: 4 })).toMatchObject({
      sequences: 16,
      micro_sequences: 4,
    });
    expect(errorOf(() => train({ batch_tokens: 8192, seq_len: 512, micro_sequences: 3 })).message).toContain(
      '16 sequences (batch_tokens 8192 / seq_len 512) do not divide into micro-batches of 3',
    );
    expect(errorOf(() => train({ batch_tokens: 8192, sequences: 16 })).message).toContain('leave one of them out');
  });

  test('it takes the place of the sequences of a preset, and of those of a file when it is an override', () => {
    const preset = 'chameleon-37m-mot';
    const { seq_len } = readPreset(preset).train;
    expect(readPreset(preset, [`train.batch_tokens=${3 * seq_len}`]).train.sequences).toBe(3);
    const recipe = fileURLToPath(new URL('../../../recipes/start.yaml', import.meta.url));
    expect(readRunConfig(recipe, ['train.batch_tokens=4096']).train).toMatchObject({
      sequences: 8,
      micro_sequences: 8,
    });
  });
});

describe('overrides', () => {
  const source = parseConfigText('model:\n  d_model: 32\n', 'a.yaml');

  test('values are YAML, keys are dotted', () => {
    const { value } = applyOverrides(source, [
      'train.lr=1e-3',
      'model.modalities=[text, image]',
      'out=runs/a=b',
      'train.x=',
    ]);
    expect(value).toEqual({
      model: { d_model: 32, modalities: ['text', 'image'] },
      train: { lr: 1e-3, x: null },
      out: 'runs/a=b',
    });
    expect(source.value).toEqual({ model: { d_model: 32 } });
  });

  test('errors name the override', () => {
    const changed = applyOverrides(source, ['train.stpes=3']);
    const { message } = errorOf(() => parseWith(schema, changed.value, 'run config', { where: changed.where }));
    expect(message).toContain('override train.stpes: unknown key train.stpes; did you mean steps?');
  });

  test.each([['lr'], ['=3'], ['model.d_model.x=3'], ['a=[1']])('%s is refused', (override) => {
    expect(errorOf(() => applyOverrides(source, [override])).code).toBe('ERR_USAGE');
  });

  test('an override takes the place of what says the same in another way', () => {
    const alternatives = [['train.sequences', 'train.batch_tokens']] as const;
    const given = parseConfigText('train: {sequences: 4, lr: 1}', 'a.yaml');
    const valueOf = (...overrides: string[]): unknown => applyOverrides(given, overrides, alternatives).value;
    expect(valueOf('train.batch_tokens=99')).toEqual({ train: { batch_tokens: 99, lr: 1 } });
    expect(valueOf('train.sequences=5')).toEqual({ train: { sequences: 5, lr: 1 } });
    expect(valueOf('train.sequences=5', 'train.batch_tokens=99')).toEqual({
      train: { sequences: 5, batch_tokens: 99, lr: 1 },
    });
    expect(given.value).toEqual({ train: { sequences: 4, lr: 1 } });
  });

  test('__proto__ is an unknown key', () => {
    const changed = applyOverrides(source, ['__proto__.polluted=1']);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect(errorOf(() => parseWith(schema, changed.value, 'config')).message).toContain('__proto__');
  });
});
