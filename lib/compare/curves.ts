import { quantile } from '../bench/statistics.js';
import type { Curve } from '../report/data.js';
import { allLosses, isStep, type MetricsLine } from '../train/metrics.js';

/** Losses that a comparison looks at; the last two are watched during training. */
export const SPLITS = ['train', 'validation', 'heldout'] as const;
export type CurveSplit = (typeof SPLITS)[number];

/** What one run's metrics say to a comparison. */
export interface RunCurves {
  losses: Record<CurveSplit, Record<string, Curve>>;
  /** Median time of a step, without waiting for data, validation and checkpoints; a pause of the machine does not count. */
  secondsPerStep: number;
  /** 90th percentile of the time of a step over the 10th. */
  secondsSpread: number;
  /** Mean over the run. */
  tokensPerStep: number;
  /** Last step of the metrics. */
  steps: number;
  /** Steps whose gradient was not finite. */
  skipped: number;
}

/**
 * Sorts a run's metrics by split and modality; values that were not finite are left out.
 *
 * @param continuous The modality that is learnt by diffusion: its loss is the error of the prediction. Default: none.
 */
export function runCurves(lines: readonly MetricsLine[], continuous?: string): RunCurves {
  const losses: RunCurves['losses'] = { train: {}, validation: {}, heldout: {} };
  const steps = lines.filter(isStep);
  const add = (split: CurveSplit, step: number, values: Record<string, number | null>): void => {
    for (const [modality, value] of Object.entries(values)) {
      const curve = (losses[split][modality] ??= { step: [], value: [] });
      if (value === null || step === curve.step.at(-1)) continue;
      curve.step.push(step);
      curve.value.push(value);
    }
  };
  for (const line of lines)
    if (isStep(line)) add('train', line.step, allLosses(line, continuous));
    else if (line.event === 'validation' && (line.split === 'validation' || line.split === 'heldout'))
      add(line.split, line.step, allLosses(line, continuous));
  const seconds = steps.map((step) => step.tokens / step.tokens_per_second);
  const tokens = steps.reduce((sum, step) => sum + step.tokens, 0);
  return {
    losses,
    secondsPerStep: steps.length > 0 ? quantile(seconds, 0.5) : 0,
    secondsSpread: steps.length > 0 ? quantile(seconds, 0.9) / quantile(seconds, 0.1) : 1,
    tokensPerStep: steps.length > 0 ? tokens / steps.length : 0,
    steps: steps.at(-1)?.step ?? 0,
    skipped: steps.filter(({ skipped }) => skipped).length,
  };
}
