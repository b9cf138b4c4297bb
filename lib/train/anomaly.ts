import { median } from '../bench/statistics.js';
import type { AnomalyConfig } from '../config/train_config.js';
import { MotError } from '../errors.js';
import type { StepOptions } from '../model/model.js';
import type { TrainerState } from './checkpoint.js';
import type { AnomalyMetrics, StepMetrics } from './metrics.js';

/** Steps that must have been seen before one is judged. */
const FEWEST = 20;
/** Standard deviation of normally distributed numbers, in median absolute deviations. */
const DEVIATIONS = 1.4826;
/** Least deviation, as a share of the median: curves that hardly move have none of their own to go by. */
const LEAST_DEVIATION = { loss: 0.02, grad_norm: 0.1 };

type Judged = keyof typeof LEAST_DEVIATION;

/** What is a spike above these; Infinity while there is too little to go by. */
interface Limits {
  loss: number;
  grad_norm: number;
}

/**
 * Tells steps that are not finite, and loss spikes, from what came before them; see `train.anomaly` for the rule. All that
 * it knows is in the trainer's state, so a resumed run judges as one without a break.
 */
export class AnomalyWatch {
  private limits: Limits = { loss: Infinity, grad_norm: Infinity };

  constructor(
    private readonly config: AnomalyConfig,
    private readonly recent: TrainerState['recent'],
  ) {}

  /** What the next step may reach and still change the weights. */
  before(): Pick<StepOptions, 'maxLoss' | 'maxGradNorm'> {
    const limit = (key: Judged): number => limitOf(this.recent[key], this.config.factor, LEAST_DEVIATION[key]);
    this.limits = { loss: limit('loss'), grad_norm: limit('grad_norm') };
    const applied = this.config.spike === 'ignore' || this.config.spike === 'warn';
    return applied ? {} : { maxLoss: this.limits.loss, maxGradNorm: this.limits.grad_norm };
  }

  /** Judges the step that `before` was called for, and remembers it. */
  after(step: StepMetrics): Omit<AnomalyMetrics, 'documents'> | undefined {
    const { config, recent, limits } = this;
    const { loss, grad_norm } = step;
    const action = this.actionOn(step);
    // Spikes count like other steps: a level that stays high is no spike for long, and the median bears with single ones.
    for (const key of ['loss', 'grad_norm'] as const) {
      const value = step[key];
      if (value !== null) recent[key].push(value);
      recent[key].splice(0, recent[key].length - config.window);
    }
    recent.skipped = step.skipped ? recent.skipped + 1 : 0;
    if (action === undefined) return undefined;
    const known = (limit: number): number | null => (Number.isFinite(limit) ? limit : null);
    return {
      event: 'anomaly',
      step: step.step,
      kind: isFiniteStep(step) ? 'spike' : 'not_finite',
      action: step.skipped && recent.skipped >= config.most_skipped ? 'stopped' : action,
      loss,
      grad_norm,
      max_loss: known(limits.loss),
      max_grad_norm: known(limits.grad_norm),
    };
  }

  private actionOn(step: StepMetrics): AnomalyMetrics['action'] | undefined {
    const { not_finite, spike } = this.config;
    if (!isFiniteStep(step)) return not_finite === 'stop' ? 'stopped' : 'skipped';
    const over = step.loss! > this.limits.loss || step.grad_norm! > this.limits.grad_norm;
    if (!over || spike === 'ignore') return undefined;
    return ({ warn: 'warned', skip: 'skipped', stop: 'stopped' } as const)[spike];
  }

  /** The error that ends a run at an anomaly. */
  error(anomaly: AnomalyMetrics, dataset: string): MotError {
    const { config } = this;
    const setting = anomaly.kind === 'spike' ? 'spike' : 'not_finite';
    const advice =
      config[setting] === 'stop'
        ? `train.anomaly.${setting} is stop; to leave such steps out from the last checkpoint on, resume with train.anomaly.${setting}=skip.`
        : `That makes ${this.recent.skipped} steps in a row, as many as train.anomaly.most_skipped allows: start anew with a lower train.lr or train.clip, or look for what is wrong with the documents.`;
    return new MotError(
      anomaly.kind === 'spike' ? 'ERR_LOSS_SPIKE' : 'ERR_NOT_FINITE',
      `${anomalySentence(anomaly, dataset)} ${advice}`,
    );
  }
}

/** An anomaly in words, with the documents of its batch and how to look at them. */
export function anomalySentence(anomaly: AnomalyMetrics, dataset: string): string {
  const { step, action, documents } = anomaly;
  const effect = action === 'warned' ? 'the step counts' : 'the step changed nothing';
  const shown = documents.slice(0, 8).join(',');
  const rest = documents.length > 8 ? ` and ${documents.length - 8} more, listed in metrics.jsonl` : '';
  return `step ${step}: ${reasonOf(anomaly)}; ${effect}. Documents of its batch: ${shown}${rest}; see them with mot data inspect ${dataset} --documents ${shown}.`;
}

function reasonOf({ kind, loss, grad_norm, max_loss, max_grad_norm }: AnomalyMetrics): string {
  if (kind === 'not_finite') return `the ${loss === null ? 'loss' : 'gradient'} is not finite`;
  const over = (name: string, value: number, limit: number): string[] =>
    value > limit ? [`the ${name} ${short(value)} is a spike (more than ${short(limit)} by the steps before)`] : [];
  return [
    ...over('loss', loss!, max_loss ?? Infinity),
    ...over('gradient norm', grad_norm!, max_grad_norm ?? Infinity),
  ].join(' and ');
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function isFiniteStep({ loss, grad_norm }: StepMetrics): boolean {
  return loss !== null && grad_norm !== null;
}

function limitOf(values: readonly number[], factor: number, least: number): number {
  if (values.length < FEWEST) return Infinity;
  const middle = median(values);
  const deviation = DEVIATIONS * median(values.map((value) => Math.abs(value - middle)));
  return middle + factor * Math.max(deviation, least * Math.abs(middle));
}
