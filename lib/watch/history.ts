import type { Chart } from '../report/charts.js';
import type { Curve } from '../report/data.js';
import { lossChart, trendChart } from '../report/html.js';
import {
  allLosses,
  DIFFUSION,
  isStep,
  type MetricsLine,
  type StepMetrics,
  type ValidationMetrics,
} from '../train/metrics.js';
import { anomalyFacts, countAnomaly, type AnomalyCounts } from '../report/anomalies.js';
import { duration } from '../train/progress.js';

/** Points of a curve at most: as many as a screen can show. */
const MOST_POINTS = 512;

/** A curve in constant memory: when it is full, two points become one, their mean. */
export class ThinnedCurve implements Curve {
  step: number[] = [];
  value: number[] = [];
  private stride = 1;
  private sum = 0;
  private count = 0;

  add(step: number, value: number | null | undefined): void {
    // Values that were not finite (null in the file) leave a gap.
    if (typeof value !== 'number') return;
    this.sum += value;
    if (++this.count < this.stride) return;
    this.step.push(step);
    this.value.push(this.sum / this.count);
    this.sum = this.count = 0;
    if (this.step.length < MOST_POINTS) return;
    this.stride *= 2;
    this.step = this.step.filter((_, i) => i % 2 === 1);
    this.value = this.step.map((_, i) => (this.value[2 * i]! + this.value[2 * i + 1]!) / 2);
  }
}

/** What the live page shows of the rest of a step: key in its line, title, unit. */
const TRENDS = [
  ['tokens_per_second', 'throughput', 'tokens a second'],
  ['memory', 'memory', 'MB'],
  ['lr', 'learning rate', 'learning rate'],
  ['grad_norm', 'gradient norm', 'norm before clipping'],
] as const;

type Losses = Record<'train' | 'validation' | 'heldout', ThinnedCurve>;

/** The curves of a run as they grow, in constant memory. */
export class RunHistory {
  private readonly losses = new Map<string, Losses>();
  private readonly trends = TRENDS.map(() => new ThinnedCurve());
  private last: StepMetrics | undefined;
  private resumed = 0;
  /** Step of the newest samples. */
  samples: number | undefined;
  private anomalies: AnomalyCounts = { spikes: 0, skipped: 0 };

  /** Steps done. */
  get step(): number {
    return this.last?.step ?? 0;
  }

  add(line: MetricsLine): void {
    if (isStep(line)) {
      this.last = line;
      this.addLosses('train', line);
      TRENDS.forEach(([key], i) => this.trends[i]!.add(line.step, line[key]));
    } else if (line.event === 'resumed_from') this.resumed++;
    else if (line.event === 'samples') this.samples = line.step;
    else if (line.event === 'anomaly') countAnomaly(this.anomalies, line);
    else if (line.event === 'validation' && (line.split === 'validation' || line.split === 'heldout'))
      this.addLosses(line.split, line);
  }

  private addLosses(kind: keyof Losses, line: StepMetrics | ValidationMetrics): void {
    for (const [modality, value] of Object.entries(allLosses(line))) {
      let curves = this.losses.get(modality);
      if (!curves) {
        curves = { train: new ThinnedCurve(), validation: new ThinnedCurve(), heldout: new ThinnedCurve() };
        this.losses.set(modality, curves);
      }
      curves[kind].add(line.step, value);
    }
  }

  /** A chart of the losses of each modality, then the other trends. */
  charts(): Chart[] {
    const losses = [...this.losses].map(([modality, curves], i) =>
      lossChart(
        { modality, unit: modality === DIFFUSION ? 'squared error of the prediction' : 'nats a token', ...curves },
        i,
      ),
    );
    return [...losses, ...TRENDS.map(([key, title, unit], i) => trendChart(key, title, unit, this.trends[i]!))];
  }

  /**
   * Where the run stands, as labels and values.
   *
   * @param steps All that it is to do, where that is known.
   */
  facts(steps: number | undefined): [label: string, value: string][] {
    const { last } = this;
    if (!last) return [];
    const left = steps === undefined ? NaN : (last.elapsed / last.step) * Math.max(0, steps - last.step);
    return [
      ['step', steps === undefined ? String(last.step) : `${last.step} of ${steps}`],
      ['loss', last.loss?.toFixed(4) ?? 'not finite'],
      ['tokens a second', Math.round(last.tokens_per_second).toLocaleString('en')],
      ['memory', `${last.memory.toFixed(0)} MB`],
      ['training time', duration(last.elapsed)],
      ...(Number.isFinite(left) ? [['time left', duration(left)] as [string, string]] : []),
      ...(this.resumed > 0
        ? [['resumed', this.resumed === 1 ? 'once' : `${this.resumed} times`] as [string, string]]
        : []),
      ...anomalyFacts(this.anomalies),
    ];
  }
}
