import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { MotError } from '../errors.js';
import { fileError } from '../io/files.js';

/** One training step. Values that are not finite are null in the file. */
export interface StepMetrics {
  /** From 1. */
  step: number;
  /** The objective: weighted cross-entropy, z-loss and load-balance loss, nats a predicted token, and diffusion loss. */
  loss: number | null;
  /** Plain cross-entropy of each modality that the batch predicts, nats a token. */
  losses: Record<string, number | null>;
  /** Load-balance loss of experts with token choice, 1 when even; only where there are such. */
  balance_loss?: number | null;
  /** Mean squared error of the predicted noise (or velocity), over images, unweighted; only where the batch has such. */
  diffusion_loss?: number | null;
  /** Global norm before clipping. */
  grad_norm: number | null;
  lr: number;
  /** Only when the step changed nothing; the line of the anomaly that follows says why. */
  skipped?: true;
  /** Tokens read in this step, and per second of wall-clock time. */
  tokens: number;
  tokens_per_second: number;
  /** Training time so far, seconds; goes on after a resume. */
  elapsed: number;
  /** Resident memory of the process, MB. */
  memory: number;
}

/** Losses on one split that training does not see. */
export interface ValidationMetrics {
  event: 'validation';
  step: number;
  split: string;
  /** Only in runs with `train.ema_decay`: the losses are those of the averaged weights. */
  weights?: 'ema';
  /** Over all targets, nats a token. */
  loss: number | null;
  losses: Record<string, number | null>;
  /** Predicted tokens of each modality. */
  targets: Record<string, number>;
  /** As in a step. */
  diffusion_loss?: number | null;
}

/** Where a list of losses by modality has the diffusion loss too. */
export const DIFFUSION = 'diffusion';

/** The losses of a line, that of diffusion among them where it has one. @param name What it is called. */
export function allLosses(
  { losses, diffusion_loss }: Pick<StepMetrics, 'losses' | 'diffusion_loss'>,
  name = DIFFUSION,
): Record<string, number | null> {
  return diffusion_loss === undefined ? losses : { ...losses, [name]: diffusion_loss };
}

/** Training was interrupted and went on from a checkpoint. */
export interface ResumedMetrics {
  event: 'resumed_from';
  step: number;
  checkpoint: string;
}

/** A step that was not finite, or a loss spike; follows the line of its step. See `train.anomaly`. */
export interface AnomalyMetrics {
  event: 'anomaly';
  step: number;
  kind: 'not_finite' | 'spike';
  /** `warned`: the step counts. `skipped`: it changed nothing. `stopped`: nor did it, and the run ended. */
  action: 'warned' | 'skipped' | 'stopped';
  loss: number | null;
  grad_norm: number | null;
  /** What is a spike above these, by the steps before; null while these are too few. */
  max_loss: number | null;
  max_grad_norm: number | null;
  /** Index of every document of the batch in the split `train`: `mot data inspect DATA --documents 5,17`. */
  documents: number[];
}

/** Samples were generated: see `train.samples`. */
export interface SamplesMetrics {
  event: 'samples';
  step: number;
  /** In the run folder. */
  folder: string;
}

/** A line of `metrics.jsonl`. */
export type MetricsLine = SamplesMetrics | StepMetrics | ValidationMetrics | ResumedMetrics | AnomalyMetrics;

/** Whether a line is a training step. */
export function isStep(line: MetricsLine): line is StepMetrics {
  return !('event' in line);
}

/** All whole lines of a metrics file; a line cut off by a crash, and what follows it, is left out. */
export function readMetrics(path: string): MetricsLine[] {
  return wholeLines(path).map(({ line }) => line);
}

/** Whole lines and the byte at which each ends. */
function wholeLines(path: string): { line: MetricsLine; end: number }[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw fileError('ERR_FILE_OPEN', `cannot read ${path}`, cause);
  }
  const lines: { line: MetricsLine; end: number }[] = [];
  for (let begin = 0, newline; (newline = bytes.indexOf(10, begin)) >= 0; begin = newline + 1) {
    try {
      const line = JSON.parse(bytes.toString('utf8', begin, newline)) as MetricsLine;
      if (typeof line !== 'object' || line === null || typeof line.step !== 'number') break;
      lines.push({ line, end: newline + 1 });
    } catch {
      break;
    }
  }
  return lines;
}

/** Appends lines to `metrics.jsonl`. */
export class MetricsFile {
  private constructor(
    readonly path: string,
    private fd: number,
    private readonly inode: number,
  ) {}

  /**
   * Opens the file, made where there is none, and cuts off all lines after a step (what a run did after its last
   * checkpoint it does again after the resume). Step 0 empties it.
   *
   * @returns The file and the lines kept.
   */
  static open(path: string, lastStep: number): { file: MetricsFile; lines: MetricsLine[] } {
    let fd: number;
    try {
      fd = openSync(path, 'a+');
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${path}`, cause);
    }
    const lines: MetricsLine[] = [];
    let end = 0;
    for (const whole of lastStep === 0 ? [] : wholeLines(path)) {
      if (whole.line.step > lastStep) break;
      lines.push(whole.line);
      end = whole.end;
    }
    try {
      const { size, ino } = fstatSync(fd);
      if (size > end) ftruncateSync(fd, end);
      return { file: new MetricsFile(path, fd, ino), lines };
    } catch (cause) {
      closeSync(fd);
      throw fileError('ERR_FILE_WRITE', `cannot write ${path}`, cause);
    }
  }

  /** Writes a line. MotError ERR_FILE_WRITE; also where the file has vanished, which writing alone would not tell. */
  append(line: MetricsLine): void {
    if (statSync(this.path, { throwIfNoEntry: false })?.ino !== this.inode)
      throw new MotError(
        'ERR_FILE_WRITE',
        `${this.path} was removed, moved or replaced while the run wrote to it; put it back and resume, or start anew.`,
      );
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    try {
      if (this.fd < 0) throw new MotError('ERR_INTERNAL', `${this.path} is closed.`);
      for (let written = 0; written < bytes.length;) written += writeSync(this.fd, bytes, written);
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${this.path}`, cause);
    }
  }

  /** Lines are on the disk when it returns: before the checkpoint that they lead to. */
  sync(): void {
    try {
      fsyncSync(this.fd);
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${this.path}`, cause);
    }
  }

  close(): void {
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }
}
