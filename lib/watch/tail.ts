import { open, type FileHandle } from 'node:fs/promises';
import type { MetricsLine } from '../train/metrics.js';

/** Bytes read at once: a long run's file is read in pieces, and others get their turn between them. */
const PIECE = 1 << 20;
/** Bytes before the place reached, by which a file that was cut and grew again is told from one that only grew. */
const GUARD = 256;

/** Follows a `metrics.jsonl` that a process appends to, and cuts back when a run is resumed. */
export class MetricsTail {
  private offset = 0;
  private guard = Buffer.alloc(0);

  constructor(readonly path: string) {}

  /**
   * Reads what has come since the last call.
   *
   * @param take Gets every whole line in order.
   * @param restart Called before lines come from the beginning again, because the file was cut or is another one.
   */
  async read(take: (line: MetricsLine) => void, restart: () => void): Promise<void> {
    let file: FileHandle;
    try {
      file = await open(this.path, 'r');
    } catch {
      if (this.offset > 0) this.rewind(restart);
      return; // Not there yet, or no longer.
    }
    try {
      if (this.offset > 0 && !(await this.continues(file))) this.rewind(restart);
      for (;;) {
        const piece = Buffer.alloc(PIECE);
        const { bytesRead } = await file.read(piece, 0, PIECE, this.offset);
        const end = piece.subarray(0, bytesRead).lastIndexOf(10) + 1;
        if (end === 0) return;
        for (const text of piece.toString('utf8', 0, end).split('\n')) {
          const line = parse(text);
          if (line) take(line);
        }
        this.offset += end;
        this.guard = Buffer.concat([this.guard, piece.subarray(0, end)]).subarray(-GUARD);
      }
    } finally {
      await file.close();
    }
  }

  private async continues(file: FileHandle): Promise<boolean> {
    const { length } = this.guard;
    const found = Buffer.alloc(length);
    const { bytesRead } = await file.read(found, 0, length, this.offset - length);
    return bytesRead === length && found.equals(this.guard);
  }

  private rewind(restart: () => void): void {
    this.offset = 0;
    this.guard = Buffer.alloc(0);
    restart();
  }
}

function parse(text: string): MetricsLine | undefined {
  try {
    const line = JSON.parse(text) as MetricsLine | null;
    return typeof line === 'object' && typeof line?.step === 'number' ? line : undefined;
  } catch {
    return undefined;
  }
}
