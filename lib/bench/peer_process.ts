import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { MotError } from '../errors.js';
import { packageRoot } from '../package.js';

/** Libraries that a server can time; see benchmarks/peers. */
export type PeerKind = 'torch_eager' | 'torch_compile' | 'onednn' | 'openblas';

/** What a server answers, one line of JSON. */
export interface PeerAnswer {
  ready?: boolean;
  /** Names and versions of the libraries. */
  version?: string;
  ms?: number[];
  parts?: Record<string, number[]>;
  peak_rss_mb?: number;
  error?: string;
  /** Python package that is missing. */
  install?: string;
}

/** The server's script, part of the repository but not of the published package. */
export function serverScript(): string {
  return join(packageRoot(), 'benchmarks', 'peers', 'server.py');
}

/**
 * Surroundings in which the peers are at their best: as many threads as ours, and an allocator that keeps its memory
 * (glibc's returns large blocks to the system, and the first touch of a page costs more than the work on it).
 */
function surroundings(threads: number): NodeJS.ProcessEnv {
  const count = String(threads);
  return {
    ...process.env,
    OMP_NUM_THREADS: count,
    MKL_NUM_THREADS: count,
    OPENBLAS_NUM_THREADS: count,
    MALLOC_MMAP_THRESHOLD_: String(2 ** 30),
    MALLOC_TRIM_THRESHOLD_: String(2 ** 34),
    PYTHONDONTWRITEBYTECODE: '1',
  };
}

/** One server; it answers one request at a time. */
export class PeerProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<unknown>;
  #waiting: { resolve: (answer: PeerAnswer) => void; reject: (error: Error) => void } | undefined;
  #errors = '';
  #end: Error | undefined;

  /** Starts a server. `ready` has to be asked before the first request. */
  constructor(
    readonly kind: PeerKind,
    python: string,
    threads: number,
  ) {
    const args = [serverScript(), '--peer', kind, '--threads', String(threads)];
    // A process group of its own, so that what it starts (compilers) ends with it.
    const child = spawn(python, args, { env: surroundings(threads), detached: true });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('error', (cause: NodeJS.ErrnoException) => {
        this.#fail(
          cause.code === 'ENOENT'
            ? new MotError(
                'ERR_UNSUPPORTED',
                `there is no program ${python}; install Python 3, or set MOT_PYTHON to its path.`,
                { cause },
              )
            : cause,
        );
        resolve(undefined);
      });
      child.once('close', (status, signal) => {
        const last = this.#errors.trim().split('\n').at(-1);
        this.#fail(new Error(`the process ended with ${signal ?? status}${last ? `: ${last}` : ''}`));
        resolve(undefined);
      });
    });
    child.stdin.on('error', () => {}); // of a server that has ended; 'close' says so
    child.stderr.on('data', (text: Buffer) => (this.#errors = (this.#errors + text.toString()).slice(-4000)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      try {
        waiting?.resolve(JSON.parse(line) as PeerAnswer);
      } catch (cause) {
        waiting?.reject(new Error(`the server said ${JSON.stringify(line)}`, { cause }));
      }
    });
  }

  /** Whether requests can still be answered. */
  get alive(): boolean {
    return this.#end === undefined;
  }

  /** The first answer: the library's version, or why there is none. */
  ready(limitMs: number): Promise<PeerAnswer> {
    return this.#answer(limitMs);
  }

  /** Sends a request and waits for its answer; past the limit the server is ended. */
  ask(request: object, limitMs: number): Promise<PeerAnswer> {
    if (this.alive) this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    return this.#answer(limitMs);
  }

  /** Ends the server. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#kill(), 2000);
    await this.#ended;
    clearTimeout(timer);
  }

  async #answer(limitMs: number): Promise<PeerAnswer> {
    if (this.#end) throw this.#end;
    const timer = setTimeout(() => {
      this.#fail(new Error(`it took more than ${limitMs / 1000} s`));
      this.#kill();
    }, limitMs);
    try {
      return await new Promise<PeerAnswer>((resolve, reject) => (this.#waiting = { resolve, reject }));
    } finally {
      clearTimeout(timer);
    }
  }

  #fail(error: Error): void {
    this.#end ??= error;
    this.#waiting?.reject(this.#end);
    this.#waiting = undefined;
  }

  #kill(): void {
    const { pid } = this.#child;
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
  }
}
