/** What the learning rate follows from. */
export interface Schedule {
  /** Highest learning rate, reached at the end of the warm-up. */
  lr: number;
  /** The last step's learning rate as a share of `lr`. */
  minLrRatio: number;
  /** Steps of linear warm-up; 0: none. */
  warmupSteps: number;
  /** Steps of the whole run. */
  steps: number;
}

/**
 * Learning rate of a step, counted from 1: linear from lr / warmupSteps to lr over the warm-up, then a half cosine
 * down to lr * minLrRatio at the last step. Steps beyond the last keep that.
 */
export function learningRate(schedule: Schedule, step: number): number {
  const { lr, minLrRatio, warmupSteps, steps } = schedule;
  if (step <= warmupSteps) return (lr * step) / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  return lr * (minLrRatio + (1 - minLrRatio) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
