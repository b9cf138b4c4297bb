import { MultiBar, type SingleBar } from 'cli-progress';

/** A part of the work that goes on. */
export interface Stage {
  /** `units` (default 1) are done; `items` of them were looked at: then items a second and the time left are told. */
  advance(units?: number, items?: number): void;
  /** Ends it and tells how long it took. */
  end(): void;
}

/** What preparing a data set tells about itself; stages overlap. */
export interface PrepareProgress {
  stage(name: string, units: number): Stage;
  /** A sentence to show. */
  say(sentence: string): void;
  stop(): void;
}

/** Tells nothing. */
export const silentPreparation: PrepareProgress = {
  stage: () => ({ advance() {}, end() {} }),
  say() {},
  stop() {},
};

/** Seconds between two lines about a stage, where there is no terminal. */
const LINE_SECONDS = 10;

/**
 * A bar for each stage on a terminal, elsewhere a line at the end of each stage and now and then about one that takes
 * long; both on standard error.
 */
export function consolePreparation(stream: NodeJS.WriteStream = process.stderr): PrepareProgress {
  return stream.isTTY ? bars(stream) : lines(stream);
}

/** Where a stage stands: its speed counts only what was done since it began. */
class Pace {
  readonly #began = performance.now();
  readonly #units: number;
  #done = 0;
  /** Units that were there already, such as those of an earlier run. */
  #given = 0;
  #items = 0;

  constructor(units: number) {
    this.#units = units;
  }

  advance(units: number, items: number | undefined): void {
    this.#done += units;
    if (items === 0) this.#given += units;
    this.#items += items ?? 0;
  }

  get seconds(): number {
    return (performance.now() - this.#began) / 1000;
  }

  get items(): number {
    return this.#items;
  }

  /** `1234 items, 56.7 items/s, 3 min left`; '' where items are not counted. */
  toString(): string {
    if (this.#items === 0) return '';
    const speed = (this.#done - this.#given) / this.seconds;
    const left = (this.#units - this.#done) / speed;
    const rate = this.#items / this.seconds;
    const time =
      left < 90
        ? `${Math.ceil(left)} s`
        : left < 5400
          ? `${Math.ceil(left / 60)} min`
          : `${(left / 3600).toFixed(1)} h`;
    return `${this.#items} items, ${rate.toFixed(rate < 10 ? 1 : 0)} items/s${Number.isFinite(left) ? `, ${time} left` : ''}`;
  }

  get percent(): number {
    return Math.floor((100 * this.#done) / Math.max(1, this.#units));
  }
}

function bars(stream: NodeJS.WriteStream): PrepareProgress {
  const all = new MultiBar({
    format: '{name} {bar} {percentage} %  {seconds} s  {pace}',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 24,
    hideCursor: true,
    emptyOnZero: true,
    stream,
  });
  return {
    stage(name, units) {
      const pace = new Pace(units);
      const shown = () => ({ seconds: pace.seconds.toFixed(1), pace: pace.toString() });
      const bar: SingleBar = all.create(units, 0, { name: name.padEnd(16), ...shown() });
      return {
        advance(done = 1, items) {
          pace.advance(done, items);
          bar.increment(done, shown());
        },
        end: () => bar.update(units, shown()),
      };
    },
    say: (sentence) => all.log(`${sentence}\n`),
    stop: () => all.stop(),
  };
}

function lines(stream: NodeJS.WritableStream): PrepareProgress {
  return {
    stage(name, units) {
      const pace = new Pace(units);
      let told = 0;
      return {
        advance(done = 1, items) {
          pace.advance(done, items);
          if (pace.items === 0 || pace.seconds < told + LINE_SECONDS) return;
          told = pace.seconds;
          stream.write(`${name}: ${pace.percent} %, ${pace}\n`);
        },
        end: () => void stream.write(`${name}: ${pace.items || units} in ${pace.seconds.toFixed(1)} s\n`),
      };
    },
    say: (sentence) => void stream.write(`${sentence}\n`),
    stop() {},
  };
}
