import { SingleBar } from 'cli-progress';
import { allLosses, type StepMetrics, type ValidationMetrics } from './metrics.js';

/** What a training run tells about itself while it goes on. */
export interface Progress {
  /** Called once, with the step that the run goes on from. */
  start(step: number, steps: number): void;
  step(metrics: StepMetrics): void;
  validation(metrics: ValidationMetrics): void;
  /** A sentence to show between the others. */
  say(sentence: string): void;
  stop(): void;
}

/** Tells nothing. */
export const silent: Progress = { start() {}, step() {}, validation() {}, say() {}, stop() {} };

/** Seconds between lines where there is no terminal. */
const LINE_SECONDS = 10;

/** `1h02m`, `4m05s`, `7s`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n: number): string => String(n).padStart(2, '0');
  if (whole >= 3600) return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
  return whole >= 60 ? `${Math.floor(whole / 60)}m${two(whole % 60)}s` : `${whole}s`;
}

/** `text 3.21  image 4.05`. */
export function lossList(losses: Record<string, number | null>): string {
  return Object.entries(losses)
    .map(([name, loss]) => `${name} ${loss === null ? 'not finite' : loss.toFixed(3)}`)
    .join('  ');
}

function validationLine(line: ValidationMetrics): string {
  const { step, split, weights } = line;
  return `step ${step}, ${split}${weights ? ', averaged weights' : ''}: ${lossList(allLosses(line))}`;
}

/** Seconds to go at the pace of the last steps. */
class Pace {
  private smooth = 0;
  private last = NaN;
  /** Takes the time of a finished step and gives seconds a step. */
  tick(now: number): number {
    const took = now - this.last;
    this.last = now;
    if (Number.isFinite(took)) this.smooth = this.smooth === 0 ? took : 0.95 * this.smooth + 0.05 * took;
    return this.smooth;
  }
}

/** A bar on a terminal, plain lines (about one in ten seconds) elsewhere; both on standard error. */
export function consoleProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY ? new BarProgress(stream) : new LineProgress(stream);
}

class BarProgress implements Progress {
  private readonly bar: SingleBar;
  private readonly pace = new Pace();
  private running = false;

  constructor(private readonly stream: NodeJS.WriteStream) {
    this.bar = new SingleBar({
      format: '{bar} {value}/{total}  loss {loss}  {rate} tokens/s  {left} left',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      hideCursor: true,
      stream,
    });
  }

  start(step: number, steps: number): void {
    this.bar.start(steps, step, { loss: '-', rate: '-', left: '-' });
    this.running = true;
  }

  step(metrics: StepMetrics): void {
    const left = this.pace.tick(metrics.elapsed) * (this.bar.getTotal() - metrics.step);
    this.bar.update(metrics.step, {
      loss: metrics.loss?.toFixed(3) ?? 'not finite',
      rate: Math.round(metrics.tokens_per_second).toLocaleString('en'),
      left: left > 0 ? duration(left) : '-',
    });
  }

  validation(metrics: ValidationMetrics): void {
    this.say(validationLine(metrics));
  }

  say(sentence: string): void {
    if (this.running) this.stream.write('\r\x1b[K');
    this.stream.write(`${sentence}\n`);
  }

  stop(): void {
    if (this.running) this.bar.stop();
    this.running = false;
  }
}

class LineProgress implements Progress {
  private readonly pace = new Pace();
  private steps = 0;
  private next = 0;

  constructor(private readonly stream: NodeJS.WritableStream) {}

  start(step: number, steps: number): void {
    this.steps = steps;
    this.say(`training from step ${step} to ${steps}`);
  }

  step(metrics: StepMetrics): void {
    const left = this.pace.tick(metrics.elapsed) * (this.steps - metrics.step);
    if (metrics.elapsed < this.next && metrics.step < this.steps) return;
    this.next = metrics.elapsed + LINE_SECONDS;
    const parts = [
      `step ${metrics.step}/${this.steps}`,
      `loss ${metrics.loss?.toFixed(4) ?? 'not finite'} (${lossList(allLosses(metrics))})`,
      `${Math.round(metrics.tokens_per_second)} tokens/s`,
    ];
    if (left > 0) parts.push(`${duration(left)} left`);
    this.say(parts.join('  '));
  }

  validation(metrics: ValidationMetrics): void {
    this.say(validationLine(metrics));
  }

  say(sentence: string): void {
    this.stream.write(`${sentence}\n`);
  }

  stop(): void {}
}
