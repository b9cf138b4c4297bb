import { MotError } from '../../errors.js';
import type { BpeModel } from './train_bpe.js';

/**
 * The `model` of a `tokenizer.json`. Only what it says in full is accepted: plain BPE.
 *
 * @throws MotError ERR_FILE_FORMAT.
 */
export function bpeOfJson(value: unknown): BpeModel {
  const model = asObject(value, 'model');
  expect(model['type'] === 'BPE', 'a model of type BPE');
  for (const unsupported of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix'])
    expect(!model[unsupported], `no ${unsupported}`);
  const ids = new Map<string, number>();
  const tokens: string[] = [];
  for (const [token, id] of Object.entries(asObject(model['vocab'], 'model.vocab'))) {
    expect(
      Number.isInteger(id) && (id as number) >= 0 && tokens[id as number] === undefined,
      'ids that are distinct integers',
    );
    tokens[id as number] = token;
    ids.set(token, id as number);
  }
  expect(tokens.length === ids.size, 'ids without gaps');
  expect(Array.isArray(model['merges']), 'a list model.merges');
  const merges = (model['merges'] as unknown[]).map((merge): [number, number] => {
    // Older files write a merge as one string.
    const pair: unknown[] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : [];
    const [left, right] = pair.map((token) => ids.get(token as string));
    expect(pair.length === 2 && left !== undefined && right !== undefined, 'merges of two tokens each');
    return [left!, right!];
  });
  return { tokens, merges };
}

/** @throws MotError ERR_FILE_FORMAT when it is none. */
export function asObject(value: unknown, what: string): Record<string, unknown> {
  expect(typeof value === 'object' && value !== null && !Array.isArray(value), `${what} to be an object`);
  return value as Record<string, unknown>;
}

/** @throws MotError ERR_FILE_FORMAT when the condition fails. */
export function expect(condition: boolean, what: string): asserts condition {
  if (!condition) {
    throw new MotError(
      'ERR_FILE_FORMAT',
      `tokenizer.json: expected ${what}; only byte-level BPE as in GPT-2 is supported`,
    );
  }
}
