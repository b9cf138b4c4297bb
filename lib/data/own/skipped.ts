import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileError } from '../../io/files.js';

/** One line of `skipped.jsonl`: an item that is not in the data set. */
export interface SkippedLine {
  /** Index of its source. */
  source: number;
  file: string;
  /** Line, from 1, where its file is text. */
  line?: number;
  /** Member or key, where its file is an archive. */
  member?: string;
  /** Row, from 0, where its file is Parquet. */
  row?: number;
  reason: string;
}

export const SKIPPED_FILE = 'skipped.jsonl';

/** Writes `skipped.jsonl`, from a byte offset on. */
export class SkippedFile {
  readonly #path: string;
  readonly #fd: number;
  #bytes: number;

  /** @throws MotError ERR_FILE_WRITE. */
  constructor(folder: string, bytes: number) {
    this.#path = join(folder, SKIPPED_FILE);
    this.#bytes = bytes;
    try {
      this.#fd = openSync(this.#path, bytes === 0 ? 'w' : 'r+');
      ftruncateSync(this.#fd, bytes);
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${this.#path}`, cause);
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(lines: readonly SkippedLine[]): void {
    if (lines.length === 0) return;
    const text = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    try {
      for (let at = 0; at < text.length;) at += writeSync(this.#fd, text, at, text.length - at, this.#bytes + at);
    } catch (cause) {
      throw fileError('ERR_FILE_WRITE', `cannot write ${this.#path}`, cause);
    }
    this.#bytes += text.length;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
