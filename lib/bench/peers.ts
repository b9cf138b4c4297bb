import { existsSync } from 'node:fs';
import type { ModelConfig } from '../config/model_config.js';
import { MotError } from '../errors.js';
import { PeerProcess, serverScript, type PeerAnswer, type PeerKind } from './peer_process.js';
import type { Dtype } from './types.js';

/** Work that the peers know; shapes as in benchmarks/peers/torch_ops.py and torch_step.py. */
export type PeerWork = { dtype: Dtype } & (
  | { op: 'gemm'; shape: { form: 'forward' | 'd_x' | 'd_w'; tokens: number; in: number; out: number } }
  | {
      op: 'attention';
      /** Causal; `tokens` of each sequence. */
      shape: { batch: number; heads: number; kv_heads: number; tokens: number; head_dim: number };
    }
  | { op: 'loss'; shape: { tokens: number; width: number; vocab: number } }
  | { op: 'optimizer' | 'grad_norm'; shape: { sizes: number[] } }
  | {
      op: 'step';
      /** `spans`: modality and tokens of each span of the batch, in order. */
      shape: { model: ModelConfig; batch: number; tokens: number; spans: [modality: number, tokens: number][] };
    }
);

/** Times of one contender, milliseconds. */
export interface PeerTimes {
  ms: number[];
  /** Of attention and loss: `forward`, `backward`; of a step: `forward_backward`, `optimizer`. */
  parts: Record<string, number[]>;
  /** Peak memory of its process since it was warm; of a step, which has a process of its own, the peak of a step. */
  peak_rss_mb: number;
}

/** Why there are no times of a contender. It counts as missing, never as beaten. */
export interface PeerMissing {
  missing: string;
}

/** Results by contender: the library, and the way it does the work where there are several, as in `torch_eager_mask`. */
export type PeerResults = Record<string, PeerTimes | PeerMissing>;

/** How contenders take turns. */
export interface TurnOptions {
  /** Turns of each contender. Default 3. */
  turns?: number;
  /** Runs in a turn. Default 3. */
  repeats?: number;
  /** Ours; runs before the others in every turn. Of a step, where contenders compete one by one: in every turn of each. */
  beside?: () => Promise<void>;
}

/** Options of `startPeers`. */
export interface PeerOptions {
  threads: number;
  /** Default: MOT_PYTHON, else `python3`. */
  python?: string;
  /** Called with what is being done. */
  progress?: (what: string) => void;
  /** Longest time to build, compile and warm a case. Default 120000. */
  prepareLimitMs?: number;
}

interface Contender {
  name: string;
  kind: PeerKind;
  variant: string | undefined;
}

const START_LIMIT_MS = 120_000;
const TURN_LIMIT_MS = 600_000;

/**
 * Starts what times the same work in other libraries.
 *
 * @throws MotError ERR_UNSUPPORTED when Python or PyTorch is missing; the message says what to install.
 */
export async function startPeers(options: PeerOptions): Promise<Peers> {
  if (!existsSync(serverScript()))
    throw new MotError(
      'ERR_UNSUPPORTED',
      `--peers needs ${serverScript()}, which only a clone of the repository has; run the benchmark there.`,
    );
  const { python = process.env['MOT_PYTHON'] || 'python3', ...rest } = options;
  const peers = new Peers({ ...rest, python });
  try {
    await peers.start('torch_eager');
  } catch (cause) {
    await peers.close();
    if (cause instanceof MotError) throw cause;
    throw new MotError(
      'ERR_UNSUPPORTED',
      `--peers needs PyTorch: ${(cause as Error).message}; run \`${python} -m pip install torch numpy\`, or set MOT_PYTHON ` +
        'to a Python that has both.',
      { cause },
    );
  }
  return peers;
}

/** Other libraries, ready to be timed. `close` ends them. */
export class Peers {
  readonly #options: PeerOptions & { python: string };
  readonly #servers = new Map<string, PeerProcess>();
  /** Name and version of each library that was started. */
  readonly versions: Partial<Record<PeerKind, string>> = {};

  constructor(options: PeerOptions & { python: string }) {
    this.#options = options;
  }

  /** The server of that key, started where there is none. @internal */
  async start(kind: PeerKind, key: string = kind): Promise<PeerProcess> {
    const known = this.#servers.get(key);
    if (known?.alive) return known;
    const server = new PeerProcess(kind, this.#options.python, this.#options.threads);
    this.#servers.set(key, server);
    const { ready, version, error } = await server.ready(START_LIMIT_MS);
    if (!ready) {
      await this.#stop(key);
      throw new Error(error ?? 'the server did not start');
    }
    this.versions[kind] = version ?? '';
    return server;
  }

  /**
   * Times works in every library that can do them. Contenders take turns; of a step, each has a process and a time of its
   * own, since several would not fit into memory.
   */
  async time(works: readonly PeerWork[], options: TurnOptions = {}): Promise<PeerResults[]> {
    const results = works.map((): PeerResults => ({}));
    const all = works.flatMap((work, i) =>
      contenders(work).map((contender) => ({ work, contender, result: results[i]! })),
    );
    const alone = works.some(({ op }) => op === 'step');
    for (const group of alone ? all.map((one) => [one]) : [all]) {
      await this.#compete(group, alone, options);
      if (alone) await Promise.all([...this.#servers.keys()].map((key) => this.#stop(key)));
      else await this.#forget();
    }
    return results;
  }

  /** Ends all processes. */
  async close(): Promise<void> {
    await Promise.all([...this.#servers.keys()].map((key) => this.#stop(key)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #compete(
    group: readonly { work: PeerWork; contender: Contender; result: PeerResults }[],
    alone: boolean,
    { turns = 3, repeats = 3, beside }: TurnOptions,
  ): Promise<void> {
    const ask = async (one: (typeof group)[number], count: number, limitMs: number): Promise<void> => {
      const { work, contender, result } = one;
      const sofar = result[contender.name];
      if (sofar && 'missing' in sofar) return;
      try {
        const server = await this.start(contender.kind, alone ? contender.name : contender.kind);
        const { variant } = contender;
        const request = { ...work, variant, threads: this.#options.threads, repeats: count };
        result[contender.name] = joined(sofar, await server.ask(request, limitMs));
      } catch (error) {
        result[contender.name] = { missing: (error as Error).message };
      }
    };
    for (const one of group) {
      this.#options.progress?.(`${one.contender.name}: ${one.work.op} ${one.work.dtype}`);
      await ask(one, 0, this.#options.prepareLimitMs ?? 120_000);
    }
    for (let turn = 0; turn < turns; turn++) {
      await beside?.();
      for (const one of group) await ask(one, repeats, TURN_LIMIT_MS);
    }
  }

  async #forget(): Promise<void> {
    for (const server of this.#servers.values())
      if (server.alive) await server.ask({ forget: true }, TURN_LIMIT_MS).catch(() => {});
  }

  async #stop(key: string): Promise<void> {
    const server = this.#servers.get(key);
    this.#servers.delete(key);
    await server?.close();
  }
}

/** Who can do a work, and how. bf16 products of PyTorch are oneDNN's, so they compete once. */
function contenders({ op, dtype, ...work }: PeerWork): Contender[] {
  const of = (kind: PeerKind, variants: readonly (string | undefined)[] = [undefined]): Contender[] =>
    variants.map((variant) => ({ kind, variant, name: variant ? `${kind}_${variant}` : kind }));
  switch (op) {
    case 'gemm':
      return dtype === 'f32' ? [...of('torch_eager'), ...of('onednn'), ...of('openblas')] : of('onednn');
    case 'attention':
    case 'grad_norm':
      return of('torch_eager');
    case 'loss':
      return [...of('torch_eager'), ...of('torch_compile')];
    case 'optimizer':
      return [...of('torch_eager', ['foreach', 'fused']), ...of('torch_compile')];
    case 'step': {
      const { model } = work.shape as { model: ModelConfig };
      const grouped = model.modalities.length > 1 && Object.values(model.untied).some(Boolean);
      const variants = grouped ? ['mask', 'index'] : [undefined];
      return [...of('torch_eager', variants), ...of('torch_compile', variants)];
    }
  }
}

function joined(
  sofar: PeerTimes | undefined,
  { error, ms = [], parts = {}, peak_rss_mb = 0 }: PeerAnswer,
): PeerTimes | PeerMissing {
  if (error !== undefined) return { missing: error };
  const names = new Set([...Object.keys(sofar?.parts ?? {}), ...Object.keys(parts)]);
  return {
    ms: [...(sofar?.ms ?? []), ...ms],
    parts: Object.fromEntries(
      [...names].map((name) => [name, [...(sofar?.parts[name] ?? []), ...(parts[name] ?? [])]]),
    ),
    peak_rss_mb: Math.max(sofar?.peak_rss_mb ?? 0, peak_rss_mb),
  };
}
