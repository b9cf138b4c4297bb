import type { ScheduleShape } from '../config/schedules.js';

/** What the learning rate follows from. */
export interface Schedule {
  /** Highest learning rate, reached at the end of the warm-up. */
  lr: number;
  /** The last step's learning rate as a share of `lr`; more than 0 where it falls exponentially. `constant` has none. */
  minLrRatio: number;
  /** Steps of linear warm-up; 0: none. */
  warmupSteps: number;
  /** Steps of the whole run. */
  steps: number;
  /** How it falls after the warm-up. Default `cosine`. */
  schedule?: ScheduleShape;
  /** Of `wsd`: the share of the steps after the warm-up in which it falls. Default 0.1. */
  decayShare?: number;
}

/**
 * Decay of the averaged weights at an update, counted from 1: min(decay, (1 + update) / (10 + update)), as TensorFlow's
 * ExponentialMovingAverage has it with `num_updates`. So the average of a few updates is not mostly the initial weights.
 */
export function emaDecayAt(decay: number, update: number): number {
  return Math.min(decay, (1 + update) / (10 + update));
}

/** How much of the way from the highest to the lowest rate is still to go, 1 to 0, by the share of steps done. */
const LEFT: Record<'linear' | 'cosine' | 'wsd', (done: number, decayShare: number) => number> = {
  linear: (done) => 1 - done,
  cosine: (done) => 0.5 * (1 + Math.cos(Math.PI * done)),
  wsd: (done, decayShare) => Math.min(1, (1 - done) / decayShare),
};

/**
 * Learning rate of a step, counted from 1: linear from lr / warmupSteps to lr over the warm-up, then as `schedule` says
 * down to lr * minLrRatio at the last step. Steps beyond the last keep that.
 */
export function learningRate(plan: Schedule, step: number): number {
  const { lr, minLrRatio, warmupSteps, steps, schedule = 'cosine', decayShare = 0.1 } = plan;
  if (step <= warmupSteps) return (lr * step) / warmupSteps;
  const done = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  if (schedule === 'constant') return lr;
  if (schedule === 'exponential') return lr * minLrRatio ** done;
  return lr * (minLrRatio + (1 - minLrRatio) * LEFT[schedule](done, decayShare));
}
