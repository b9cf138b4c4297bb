import { basename, extname, join } from 'node:path';
import { z } from 'zod';
import { applyOverrides, isGroup, readConfigFile, type ConfigSource } from '../config/file.js';
import { parseWith, type KeyPath } from '../config/parse.js';
import { parseRunConfig, runConfigSchema, withPresets, type RunConfig } from '../config/run_config.js';

const seedList = z.array(z.int().min(0)).min(1);

/** Name of a model, which is also the beginning of its runs' folders. */
const NAME = /^[a-z0-9][a-z0-9._-]*$/;

/** The `compare` part of a comparison's config. */
export const compareSchema = z.strictObject({
  /** The model that the others are held against, one of `models`. */
  baseline: z.string().default('dense'),
  /**
   * What each model has else than `model`: these keys take the place of those of the same name. `image_mask` takes that of
   * `data.diffusion.image_mask`: of the data, what a patch sees is the one thing that may differ.
   */
  models: z.record(z.string(), z.record(z.string(), z.unknown())),
  /** Seeds of every model, or a list for each. One seed is the same weights at the start and the same order of data. */
  seeds: z.union([seedList, z.record(z.string(), seedList)]).default([0]),
  /** Let documents come more than once; the report then says so. */
  allow_repeats: z.boolean().default(false),
});

/** A run config with a part `compare`. */
const configSchema = runConfigSchema
  .extend({ compare: compareSchema })
  .superRefine(({ train, compare: { baseline, models, seeds } }, context) => {
    const wrong = (path: string[], message: string): void =>
      context.addIssue({ code: 'custom', path: ['compare', ...path], message });
    const names = Object.keys(models);
    if (names.length < 2) wrong(['models'], 'a comparison needs two models or more');
    for (const name of names)
      if (!NAME.test(name))
        wrong(
          ['models', name],
          'cannot name a model, nor a folder; use a-z, 0-9, ., _ and -, and begin with a-z or 0-9',
        );
    if (!names.includes(baseline)) wrong(['baseline'], `${baseline} is none of the models ${names.join(', ')}`);
    if (Array.isArray(seeds)) {
      if (new Set(seeds).size < seeds.length) wrong(['seeds'], 'names a seed twice');
    } else {
      for (const name of Object.keys(seeds))
        if (!names.includes(name)) wrong(['seeds', name], `is none of the models ${names.join(', ')}`);
      for (const name of names) {
        const own = seeds[name];
        if (own === undefined) wrong(['seeds'], `gives no seeds to ${name}`);
        else if (new Set(own).size < own.length) wrong(['seeds', name], 'names a seed twice');
      }
    }
    if (train.validation_documents === 0)
      context.addIssue({
        code: 'custom',
        path: ['train', 'validation_documents'],
        message: 'a comparison is judged by validation; give it documents',
      });
  });

/** One run of a comparison. */
export interface PlannedRun {
  model: string;
  seed: number;
  config: RunConfig;
}

/** A comparison, resolved: what is trained, in which order. */
export interface ComparisonPlan {
  baseline: string;
  /** Names of the models, the baseline first. */
  models: string[];
  runs: PlannedRun[];
  allowRepeats: boolean;
  out: string;
  /** The config as given, with overrides: plain JSON. */
  source: Record<string, unknown>;
}

/**
 * Reads the config of a comparison and puts `key=value` overrides over it. `out` is `runs/NAME` by default, after the
 * file's name; the runs are OUT/MODEL-seedSEED.
 *
 * @throws MotError ERR_FILE_OPEN, ERR_USAGE, ERR_CONFIG: every model's config is checked.
 */
export function readComparison(path: string, overrides: readonly string[] = []): ComparisonPlan {
  return parseComparison(applyOverrides(readConfigFile(path), overrides), `runs/${basename(path, extname(path))}`);
}

/** The same from values in memory. */
export function parseComparison(source: ConfigSource, defaultOut: string): ComparisonPlan {
  const value: Record<string, unknown> = { out: defaultOut, ...withPresets(source) };
  const { out, train, compare } = parseWith(configSchema, value, 'comparison', { where: source.where });
  const models = [compare.baseline, ...Object.keys(compare.models).filter((name) => name !== compare.baseline)];
  const { compare: _, ...shared } = value;
  const runs = models.flatMap((model) => {
    const { image_mask: mask, ...own } = compare.models[model]!;
    const seeds = Array.isArray(compare.seeds) ? compare.seeds : compare.seeds[model]!;
    const where = (keys: KeyPath): string => {
      const at = (...inside: KeyPath): string => source.where(['compare', 'models', model, ...inside]);
      if (keys[0] === 'model' && keys.length > 1 && Object.hasOwn(own, keys[1]!)) return at(...keys.slice(1));
      return mask !== undefined && keys.join('.') === 'data.diffusion.image_mask'
        ? at('image_mask')
        : source.where(keys);
    };
    // A preset of the model's own takes the place of shared keys, as any key of its own does.
    const { model: keys } = withPresets({ value: { model: own }, where: (path) => where(path) });
    const merged = { ...(shared['model'] as object | undefined), ...(keys as object) };
    const data = mask === undefined ? shared['data'] : withImageMask(shared['data'], mask);
    return seeds.map((seed): PlannedRun => {
      const run = {
        ...shared,
        model: merged,
        ...(data === undefined ? {} : { data }),
        train: { ...train, seed },
        out: join(out, `${model}-seed${seed}`),
      };
      return { model, seed, config: parseRunConfig({ value: run, where }, out) };
    });
  });
  return {
    baseline: compare.baseline,
    models,
    runs,
    allowRepeats: compare.allow_repeats,
    out,
    source: { out, ...source.value },
  };
}

function withImageMask(data: unknown, mask: unknown): unknown {
  const group = isGroup(data) ? data : {};
  const diffusion = isGroup(group['diffusion']) ? group['diffusion'] : {};
  return { ...group, diffusion: { ...diffusion, image_mask: mask } };
}
