import type { DatasetManifest } from '../data/dataset.js';
import { isStep, type MetricsLine, type StepMetrics } from '../train/metrics.js';
import type { Curve, ModalityCurves } from './data.js';

/** Adds a point; values that were not finite (null in the file) leave a gap. */
function add(curve: Curve, step: number, value: number | null | undefined): void {
  if (value === null || value === undefined) return;
  curve.step.push(step);
  curve.value.push(value);
}

/**
 * Sorts a run's metrics into one group of curves for each modality, with the lines to beat.
 *
 * @param continuous Modalities whose patches are learnt by diffusion: their curve is the error of the prediction.
 */
export function lossCurves(
  lines: readonly MetricsLine[],
  modalities: readonly string[],
  baselines: DatasetManifest['baselines'] | undefined,
  continuous: readonly string[] = [],
): ModalityCurves[] {
  return modalities.map((modality) => {
    const diffused = continuous.includes(modality);
    const lossOf = (line: Pick<StepMetrics, 'losses' | 'diffusion_loss'>): number | null | undefined =>
      diffused ? line.diffusion_loss : line.losses[modality];
    const curves: ModalityCurves = {
      modality,
      unit: diffused ? 'squared error of the prediction' : 'nats a token',
      train: { step: [], value: [] },
      validation: { step: [], value: [] },
      heldout: { step: [], value: [] },
    };
    for (const line of lines) {
      if (isStep(line)) add(curves.train, line.step, lossOf(line));
      else if (line.event === 'validation' && (line.split === 'validation' || line.split === 'heldout'))
        add(curves[line.split], line.step, lossOf(line));
    }
    const known = baselines?.validation[modality];
    if (known) Object.assign(curves, known);
    const heldout = baselines?.heldout[modality];
    if (heldout) Object.assign(curves, { heldoutUnigram: heldout.unigram, heldoutBigram: heldout.bigram });
    return curves;
  });
}

/** Tokens a second of every step. */
export function throughputCurve(lines: readonly MetricsLine[]): Curve {
  const curve: Curve = { step: [], value: [] };
  for (const line of lines) if (isStep(line)) add(curve, line.step, line.tokens_per_second);
  return curve;
}
