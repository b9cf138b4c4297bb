import { MultiBar, type SingleBar } from 'cli-progress';

/** A part of the work that goes on. */
export interface Stage {
  advance(units?: number): void;
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

/** A bar for each stage on a terminal, a line at the end of each stage elsewhere; both on standard error. */
export function consolePreparation(stream: NodeJS.WriteStream = process.stderr): PrepareProgress {
  return stream.isTTY ? bars(stream) : lines(stream);
}

function bars(stream: NodeJS.WriteStream): PrepareProgress {
  const all = new MultiBar({
    format: '{name} {bar} {value}/{total}  {seconds} s',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 24,
    hideCursor: true,
    emptyOnZero: true,
    stream,
  });
  return {
    stage(name, units) {
      const began = performance.now();
      const label = name.padEnd(16);
      const bar: SingleBar = all.create(units, 0, { name: label, seconds: '0.0' });
      return {
        advance: (done = 1) => bar.increment(done, { seconds: secondsSince(began) }),
        end: () => bar.update(units, { seconds: secondsSince(began) }),
      };
    },
    say: (sentence) => all.log(`${sentence}\n`),
    stop: () => all.stop(),
  };
}

function lines(stream: NodeJS.WritableStream): PrepareProgress {
  return {
    stage(name, units) {
      const began = performance.now();
      return { advance() {}, end: () => void stream.write(`${name}: ${units} in ${secondsSince(began)} s\n`) };
    },
    say: (sentence) => void stream.write(`${sentence}\n`),
    stop() {},
  };
}

function secondsSince(began: number): string {
  return ((performance.now() - began) / 1000).toFixed(1);
}
