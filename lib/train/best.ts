import { isStep, type MetricsLine } from './metrics.js';

/**
 * The metric of `keep_best` over a run: `SPLIT.loss`, or `SPLIT.losses.MODALITY`, as validation lines name them. Lower is
 * better.
 */
export class BestMetric {
  private readonly split: string;
  private readonly path: string[];
  private readonly values = new Map<number, number>();

  constructor(readonly name: string) {
    const [split = '', ...path] = name.split('.');
    this.split = split;
    this.path = path;
  }

  /** Takes any line of metrics; only validations of the metric's split count. */
  add(line: MetricsLine): void {
    if (isStep(line) || line.event !== 'validation' || line.split !== this.split) return;
    let value: unknown = line;
    for (const key of this.path) value = (value as Record<string, unknown> | undefined)?.[key];
    if (typeof value === 'number') this.values.set(line.step, value);
  }

  /** The step of the lowest value, the earliest of equals; undefined where none of them was validated. */
  best(steps: readonly number[]): number | undefined {
    let best: number | undefined;
    for (const step of [...steps].sort((a, b) => a - b)) {
      const value = this.values.get(step);
      if (value !== undefined && (best === undefined || value < this.values.get(best)!)) best = step;
    }
    return best;
  }
}
