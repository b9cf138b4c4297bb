import { writeFileSync } from 'node:fs';
import { MotError } from '../errors.js';
import type { Model, OpEvent } from '../model/model.js';
import { loadAddon } from '../native/load.js';

/** Steps that run before the profile: memory is touched for the first time, threads start. */
const WARM_UP = 2;
/** Steps in the profile. */
const STEPS = 3;

/** What all calls of one op took together. */
export interface OpSummary {
  op: string;
  calls: number;
  /** Milliseconds of a step. */
  ms: number;
  /** Share of the time of all ops. */
  share: number;
  gflops: number;
  gbps: number;
  /** Of the processor's limit that the op reaches: arithmetic or memory, whichever bounds it. */
  shareOfLimit: number;
}

/** The limits that ops are held against, measured when the profiled steps are done. */
interface Limits {
  gflops: number;
  gbps: number;
}

/**
 * Profiles a few steps of a run and writes them as a Chrome trace (open it in chrome://tracing or ui.perfetto.dev).
 * `dtype` and `threads` are the model's; they choose the limits.
 */
export class StepProfiler {
  #seen = 0;
  /** Known from the first step on: a run of one step is profiled without. */
  #warmUp: number | undefined;
  #steps: { step: number; beginUs: number; durationUs: number }[] = [];
  /** Where the trace begins. */
  #began = 0;
  #running = false;
  #events: OpEvent[] = [];

  constructor(
    private readonly path: string,
    private readonly model: Model,
    private readonly dtype: 'f32' | 'bf16',
    private readonly threads: number,
  ) {
    // An unusable path is told now, not after the steps.
    write(path, '{"traceEvents":[]}\n');
  }

  /** Before a step; `left`: steps to go, this one included. */
  async before(left: number): Promise<void> {
    this.#warmUp ??= Math.min(WARM_UP, left - 1);
    if (this.#seen === this.#warmUp) {
      await this.model.startProfile();
      this.#running = true;
      this.#began = nowUs();
    }
    if (this.#running) this.#steps.push({ step: 0, beginUs: nowUs() - this.#began, durationUs: 0 });
  }

  /** After step number `step`. */
  async after(step: number): Promise<void> {
    this.#seen++;
    const last = this.#steps.at(-1);
    if (!this.#running || !last) return;
    last.step = step;
    last.durationUs = nowUs() - this.#began - last.beginUs;
    if (this.#steps.length === STEPS) await this.#take();
  }

  /** Writes the trace and sums up; null when no step ran. */
  async finish(): Promise<OpSummary[] | null> {
    if (this.#running) await this.#take();
    if (this.#events.length === 0) return null;
    const measured = await loadAddon().measureLimits(this.threads);
    const limits = {
      gflops: this.dtype === 'bf16' ? measured.bf16Gflops : measured.f32Gflops,
      gbps: measured.copyGbps,
    };
    write(this.path, JSON.stringify(traceOf(this.#events, this.#steps, limits)) + '\n');
    return summarizeOps(this.#events, this.#steps.length, limits);
  }

  async #take(): Promise<void> {
    const events = await this.model.takeProfile();
    this.#events = events.map((event) => ({ ...event, beginUs: event.beginUs - this.#began }));
    this.#running = false;
  }
}

/** The clock of the ops' times, so that they lie inside their steps however long a call waits for its turn. */
function nowUs(): number {
  return Number(process.hrtime.bigint()) / 1000;
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new MotError('ERR_FILE_WRITE', `cannot write the profile ${path}: ${(error as Error).message}.`);
  }
}

/** The share of the limit at which a call of this time runs: of whichever of arithmetic and memory takes longer at best. */
function shareOfLimit({ flops, bytes }: { flops: number; bytes: number }, us: number, limits: Limits): number {
  return us === 0 ? 0 : Math.max(flops / limits.gflops, bytes / limits.gbps) / 1000 / us;
}

/** Chrome's trace event format: complete events ("X"), microseconds; steps on one row, ops on the next. */
function traceOf(
  events: readonly OpEvent[],
  steps: readonly { step: number; beginUs: number; durationUs: number }[],
  limits: Limits,
): object {
  const row = (tid: number, name: string): object => ({
    ph: 'M',
    pid: 1,
    tid,
    name: 'thread_name',
    args: { name },
  });
  return {
    displayTimeUnit: 'ms',
    otherData: { limit_gflops: limits.gflops, limit_gbps: limits.gbps },
    traceEvents: [
      row(1, 'steps'),
      row(2, 'ops'),
      ...steps.map(({ step, beginUs, durationUs }) => ({
        ph: 'X',
        pid: 1,
        tid: 1,
        name: `step ${step}`,
        ts: beginUs,
        dur: durationUs,
      })),
      ...events.map((event) => ({
        ph: 'X',
        pid: 1,
        tid: 2,
        name: event.op,
        ts: event.beginUs,
        dur: event.durationUs,
        args: {
          flops: event.flops,
          bytes: event.bytes,
          gflops: event.flops / event.durationUs / 1000,
          gbps: event.bytes / event.durationUs / 1000,
          share_of_limit: shareOfLimit(event, event.durationUs, limits),
        },
      })),
    ],
  };
}

/** One line an op, the dearest first; times are of one step. */
export function summarizeOps(events: readonly OpEvent[], steps: number, limits: Limits): OpSummary[] {
  const sums = new Map<string, { calls: number; us: number; flops: number; bytes: number }>();
  let all = 0;
  for (const { op, durationUs, flops, bytes } of events) {
    const sum = sums.get(op) ?? { calls: 0, us: 0, flops: 0, bytes: 0 };
    sums.set(op, { calls: sum.calls + 1, us: sum.us + durationUs, flops: sum.flops + flops, bytes: sum.bytes + bytes });
    all += durationUs;
  }
  return [...sums]
    .map(([op, sum]) => ({
      op,
      calls: sum.calls / steps,
      ms: sum.us / steps / 1000,
      share: sum.us / all,
      gflops: sum.flops / sum.us / 1000,
      gbps: sum.bytes / sum.us / 1000,
      shareOfLimit: shareOfLimit(sum, sum.us, limits),
    }))
    .sort((a, b) => b.ms - a.ms);
}
