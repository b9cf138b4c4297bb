import { duration, type Progress } from '../train/progress.js';

/** Seconds between lines about the whole comparison. */
const EVERY_SECONDS = 60;

/** Adds to the progress of single runs how long the whole comparison still takes. */
export class RemainingTime {
  #done = 0;
  #seconds = 0;

  /**
   * @param progress Of the runs.
   * @param left Steps that each run still needs.
   */
  constructor(
    private readonly progress: Progress,
    private readonly left: readonly number[],
    private readonly now: () => number = () => performance.now() / 1000,
  ) {}

  /** Progress for run `index`, which is called `name`. */
  during(index: number, name: string): Progress {
    const { progress } = this;
    const later = this.left.slice(index + 1).reduce((sum, steps) => sum + steps, 0);
    let [began, told, first, steps] = [this.now(), -Infinity, 0, 0];
    return {
      start: (step, all) => {
        [first, steps] = [step, all];
        began = told = this.now();
        progress.start(step, all);
      },
      step: (metrics) => {
        progress.step(metrics);
        const now = this.now();
        const last = metrics.step === steps;
        if (now - told >= EVERY_SECONDS && !last) {
          told = now;
          const pace = (this.#seconds + now - began) / (this.#done + metrics.step - first);
          progress.say(`${name}: ${duration(pace * (steps - metrics.step + later))} left of the comparison`);
        }
        if (last) {
          this.#done += steps - first;
          this.#seconds += now - began;
        }
      },
      validation: (metrics) => progress.validation(metrics),
      say: (sentence) => progress.say(sentence),
      stop: () => progress.stop(),
    };
  }
}
