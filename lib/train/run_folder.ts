import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { isGroup } from '../config/file.js';
import { anomalySchema } from '../config/train_config.js';
import { MotError } from '../errors.js';
import { latestCheckpoint, removeUnfinished, type Checkpoint } from './checkpoint.js';
import { fileError, makeFolder, removeLeftovers, writeFileAtomic } from '../io/files.js';
import { MetricsFile, type MetricsLine } from './metrics.js';

export const CONFIG_FILE = 'config.yaml';
export const METRICS_FILE = 'metrics.jsonl';

/**
 * Keys that may change when a run goes on: they change what is watched and kept, or how fast, never what a step
 * computes. `train.steps` moves the end, and the learning rate of the steps to come with it.
 */
const FREE_KEYS = new Set([
  'out',
  'data.dataset', // The fingerprint is compared instead.
  'train.steps',
  'train.validate_every',
  'train.validation_documents',
  'train.checkpoint_every',
  'train.checkpoint_copy',
  'train.keep_checkpoints',
  'train.keep_every',
  'train.keep_best',
  'train.tensorboard',
  'train.threads',
  'train.samples.every',
  'train.samples.count',
  // Of the steps to come, like train.steps: how to get past a step that ended the run.
  ...Object.keys(anomalySchema.shape).map((key) => `train.anomaly.${key}`),
]);

/** May change as well where there are no experts: results stay the same up to rounding. */
const ROUNDING_KEYS = new Map([
  [
    'train.micro_sequences',
    { said: 'the same global batches in other parts', refused: 'experts choose among the tokens of a micro-batch' },
  ],
  ['train.device', { said: 'the same steps on another device', refused: 'a rounding may change whom experts choose' }],
]);

/** A run folder, open for training. */
export interface RunFolder {
  path: string;
  metrics: MetricsFile;
  /** Lines of metrics up to the checkpoint. */
  lines: MetricsLine[];
  /** Where to go on; undefined: from the start. */
  checkpoint?: Checkpoint;
}

/**
 * Opens the folder of a run: RUN/config.yaml, RUN/metrics.jsonl, RUN/checkpoints. To resume, metrics are cut back to
 * the newest whole checkpoint; where there is none, the run starts anew.
 *
 * @param config The resolved config.
 * @throws MotError ERR_USAGE where a run is already and `resume` is not set, ERR_CONFIG for a config that does not
 *   continue the run, ERR_FILE_WRITE.
 */
export function openRunFolder(
  path: string,
  config: Record<string, unknown>,
  fingerprint: string,
  resume: boolean,
  warn: (sentence: string) => void,
): RunFolder {
  const metricsPath = join(path, METRICS_FILE);
  if (!resume && (hasContent(metricsPath) || existsSync(join(path, 'checkpoints'))))
    throw new MotError(
      'ERR_USAGE',
      `${path} already holds a run; add --resume to go on with it, or choose another out=DIR.`,
    );
  makeFolder(path);
  try {
    removeUnfinished(path);
    removeLeftovers(join(path, CONFIG_FILE));
  } catch (cause) {
    throw fileError('ERR_FILE_WRITE', `cannot write into the folder ${path}`, cause);
  }
  const checkpoint = latestCheckpoint(path, warn);
  if (checkpoint) checkContinues(checkpoint, config, fingerprint, warn);
  writeFileAtomic(join(path, CONFIG_FILE), stringify(config));
  const { file: metrics, lines } = MetricsFile.open(metricsPath, checkpoint?.state.step ?? 0);
  if (checkpoint) metrics.append({ event: 'resumed_from', step: checkpoint.state.step, checkpoint: checkpoint.path });
  return { path, metrics, lines, ...(checkpoint ? { checkpoint } : {}) };
}

function hasContent(path: string): boolean {
  return existsSync(path) && statSync(path).size > 0;
}

/**
 * What keeps a config from continuing a run, one sentence part a key; empty: it continues it. A run goes on only with what
 * it began with: everything that a step's result depends on.
 *
 * @param free Dotted keys that may change.
 */
export function changedSettings(
  { state }: Checkpoint,
  config: Record<string, unknown>,
  fingerprint: string,
  free: ReadonlySet<string> = FREE_KEYS,
): string[] {
  const changes = [...differences(state.config, config)].filter(([key]) => !free.has(key)).map(([, what]) => what);
  if (fingerprint !== state.dataset.fingerprint) changes.push('the data set is another one');
  return changes;
}

function checkContinues(
  checkpoint: Checkpoint,
  config: Record<string, unknown>,
  fingerprint: string,
  warn: (sentence: string) => void,
): void {
  const experts = isGroup(config['model']) && config['model']['experts'] !== undefined;
  const free = experts ? FREE_KEYS : new Set([...FREE_KEYS, ...ROUNDING_KEYS.keys()]);
  const changes = changedSettings(checkpoint, config, fingerprint, free).map((change) => {
    const rounding = ROUNDING_KEYS.get(change.slice(0, change.indexOf(' ')));
    return rounding ? `${change} (${rounding.refused})` : change;
  });
  if (changes.length > 0)
    throw new MotError(
      'ERR_CONFIG',
      `this config does not continue the run of ${checkpoint.path}: ${changes.join('; ')}. Set it back, or start anew with another out=DIR.`,
    );
  const changed = differences(checkpoint.state.config, config);
  const steps = changed.get('train.steps');
  const schedule = isGroup(config['train']) ? String(config['train']['schedule']) : '';
  if (steps !== undefined && schedule !== 'constant')
    warn(`${steps}: from here on the learning rate is that of a ${schedule} schedule of the new length.`);
  for (const [key, { said }] of ROUNDING_KEYS) {
    const what = changed.get(key);
    if (what !== undefined) warn(`${what}: ${said}, so results are the same up to rounding, not bit for bit.`);
  }
}

/** A sentence part for each dotted key whose values differ. */
function differences(before: Record<string, unknown>, now: Record<string, unknown>): Map<string, string> {
  const [old, current] = [flatten(before), flatten(now)];
  const keys = [...new Set([...old.keys(), ...current.keys()])].filter((key) => old.get(key) !== current.get(key));
  const show = (value: string | undefined): string => value ?? 'not set';
  return new Map(keys.map((key) => [key, `${key} was ${show(old.get(key))} and is now ${show(current.get(key))}`]));
}

/** Dotted keys and the JSON of their values. */
function flatten(value: unknown, prefix = ''): Map<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return new Map([[prefix, JSON.stringify(value)]]);
  const all = new Map<string, string>();
  for (const [key, inside] of Object.entries(value))
    for (const [name, text] of flatten(inside, prefix === '' ? key : `${prefix}.${key}`)) all.set(name, text);
  return all;
}
