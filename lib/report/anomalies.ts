import type { AnomalyMetrics } from '../train/metrics.js';

/** Anomalies of a run so far. */
export interface AnomalyCounts {
  /** Loss spikes, whatever was done about them, and the step of the last. */
  spikes: number;
  lastSpike?: number;
  /** Steps that changed nothing, and the last of them. */
  skipped: number;
  lastSkipped?: number;
}

/** Counts one more. */
export function countAnomaly(counts: AnomalyCounts, { step, kind, action }: AnomalyMetrics): void {
  if (kind === 'spike') {
    counts.spikes++;
    counts.lastSpike = step;
  }
  if (action !== 'warned') {
    counts.skipped++;
    counts.lastSkipped = step;
  }
}

/** Labels and values for a page; none where all went well. */
export function anomalyFacts({
  spikes,
  lastSpike,
  skipped,
  lastSkipped,
}: AnomalyCounts): [label: string, value: string][] {
  return [
    ...(spikes > 0 ? [['loss spikes', `${spikes}, last at step ${lastSpike}`] as [string, string]] : []),
    ...(skipped > 0 ? [['skipped steps', `${skipped}, last at step ${lastSkipped}`] as [string, string]] : []),
  ];
}
