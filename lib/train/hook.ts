import { setTimeout as sleep } from 'node:timers/promises';
import type { MetricsLine } from './metrics.js';

/**
 * A logger of your own: called with every line of metrics, in order, as soon as it is there. A promise that it returns
 * is not waited for before the next step. What it throws is reported and does not end the training.
 */
export type OnMetrics = (line: MetricsLine) => void | PromiseLike<void>;

/** Longest wait at the end of a run for promises of a hook, milliseconds. */
const LONGEST_WAIT = 10_000;

/** Calls a user's hook so that it cannot do harm. */
export class MetricsHook {
  private readonly pending = new Set<Promise<void>>();
  private readonly reported = new Set<string>();

  constructor(
    private readonly hook: OnMetrics,
    private readonly say: (sentence: string) => void,
  ) {}

  call(line: MetricsLine): void {
    let result: void | PromiseLike<void>;
    try {
      result = this.hook(line);
    } catch (error) {
      this.report(error, line);
      return;
    }
    if (typeof result?.then !== 'function') return;
    const running: Promise<void> = Promise.resolve(result)
      .catch((error: unknown) => this.report(error, line))
      .finally(() => this.pending.delete(running));
    this.pending.add(running);
  }

  /** Waits for what the hook still does, ten seconds at most. */
  async settle(): Promise<void> {
    if (this.pending.size === 0) return;
    const controller = new AbortController();
    const { signal } = controller;
    const late = sleep(LONGEST_WAIT, true, { signal }).catch(() => false);
    const done = Promise.all(this.pending).then(() => false);
    if (await Promise.race([late, done]))
      this.say(`onMetrics has not finished ${this.pending.size} calls after ${LONGEST_WAIT / 1000} s; going on.`);
    controller.abort();
  }

  /** The same message only once: a logger that fails at every step must not bury everything else. */
  private report(error: unknown, { step }: MetricsLine): void {
    const message = error instanceof Error ? error.message : String(error);
    if (this.reported.has(message)) return;
    this.reported.add(message);
    this.say(`onMetrics failed at step ${step}, and training goes on: ${message}`);
  }
}
