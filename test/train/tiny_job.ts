import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readRunConfig } from '../../lib/config/run_config.js';
import { MODEL_FILE, OPTIMIZER_FILE } from '../../lib/train/checkpoint.js';
import { isStep, readMetrics, type MetricsLine } from '../../lib/train/metrics.js';
import { runTraining, type RunOptions, type RunResult } from '../../lib/train/run.js';
import { writeTinyDataset } from './tiny_dataset.js';

const cli = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));

/** How a process of `mot` ended. */
export interface Exit {
  code: number | null;
  signal: string | null;
  stderr: string;
}

/** A small training job and its runs, in a temporary folder. */
export class TinyJob {
  private constructor(
    readonly folder: string,
    /** Path of the config. */
    readonly config: string,
    readonly steps: number,
  ) {}

  /** Saves every 6 steps and validates every 24. `size`: the width of its feed-forward, as in a config. */
  static async create(steps: number, size = 'ffn_dim: 48'): Promise<TinyJob> {
    const folder = mkdtempSync(join(tmpdir(), 'mot-train-'));
    await writeTinyDataset(join(folder, 'data'));
    const config = join(folder, 'tiny.yaml');
    writeFileSync(
      config,
      `model: {d_model: 32, n_layers: 2, n_heads: 4, head_dim: 8, ${size}}
data: {dataset: ${JSON.stringify(join(folder, 'data'))}}
train:
  steps: ${steps}
  sequences: 4
  micro_sequences: 2
  seq_len: 48
  lr: 0.01
  warmup_steps: 5
  schedule: wsd
  decay_share: 0.5
  validate_every: 24
  validation_documents: 10
  checkpoint_every: 6
  dtype: f32
  seed: 3
`,
    );
    return new TinyJob(folder, config, steps);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Folder of a run. */
  out(name: string): string {
    return join(this.folder, name);
  }

  checkpoints(name: string): string {
    return join(this.out(name), 'checkpoints');
  }

  checkpoint(name: string, step = this.steps): string {
    return join(this.checkpoints(name), `step-${String(step).padStart(6, '0')}`);
  }

  lines(name: string): MetricsLine[] {
    return readMetrics(join(this.out(name), 'metrics.jsonl'));
  }

  /** Trains in this process. */
  train(name: string, overrides: string[] = [], options: RunOptions = {}): Promise<RunResult> {
    return runTraining(readRunConfig(this.config, [`out=${this.out(name)}`, ...overrides]), options);
  }

  /** Program and arguments of `mot train`. */
  command(name: string, ...more: string[]): string[] {
    return [process.execPath, cli, 'train', this.config, `out=${this.out(name)}`, ...more];
  }

  /** Starts `mot train` as a process of its own. */
  start(name: string, ...more: string[]): ChildProcess {
    const [program, ...words] = this.command(name, ...more);
    return spawn(program!, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Waits until a run has written the line of a step. */
  async reached(name: string, step: number): Promise<void> {
    const metrics = join(this.out(name), 'metrics.jsonl');
    while (!existsSync(metrics) || !readMetrics(metrics).some((line) => line.step >= step)) await sleep(1);
  }

  /** All of a run that has to be the same whenever it is repeated: not times and memory. */
  results(name: string): unknown[] {
    return this.lines(name)
      .filter((line) => isStep(line) || line.event === 'validation')
      .map((line) => {
        if (!isStep(line)) return line;
        const { step, loss, losses, grad_norm, lr, tokens } = line;
        return { step, loss, losses, grad_norm, lr, tokens };
      });
  }

  /** Weights and moments at the end of a run. */
  finalFiles(name: string): Buffer[] {
    return [MODEL_FILE, OPTIMIZER_FILE].map((file) => readFileSync(join(this.checkpoint(name), file)));
  }
}

/** Waits for the end of a process. */
export async function exitOf(child: ChildProcess): Promise<Exit> {
  let stderr = '';
  child.stderr!.on('data', (text: Buffer) => (stderr += text.toString()));
  child.stdout!.resume();
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, stderr };
}
