/**
 * Shapes of the learning rate after its linear warm-up, from the highest to the lowest rate at the last step:
 * `constant`, it stays; `linear`; `cosine`, half a period; `exponential`, by the same factor every step; `wsd`
 * (warm-up, stable, decay), constant, then linear over the last steps.
 */
export const SCHEDULES = ['constant', 'linear', 'cosine', 'exponential', 'wsd'] as const;

/** One of `SCHEDULES`. */
export type ScheduleShape = (typeof SCHEDULES)[number];
