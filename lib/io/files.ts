import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { MotError, type MotErrorCode } from '../errors.js';

const reasons: Record<string, string> = {
  ENOENT: 'there is no such file or folder',
  EACCES: 'no permission',
  EPERM: 'no permission',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the disk is full; free some space or choose another folder',
  EDQUOT: 'the disk quota is used up; free some space or choose another folder',
  ENOTDIR: 'a part of the path is a file, not a folder',
  EISDIR: 'it is a folder, not a file',
  EEXIST: 'a file of that name is in the way',
  EFBIG: 'the file would be larger than its file system or a limit of this process (ulimit -f) allows',
  EMFILE: 'too many files are open',
};

/** A MotError from a failed file system call: what was tried, and why it failed. MotErrors pass unchanged. */
export function fileError(code: MotErrorCode, what: string, cause: unknown): MotError {
  if (cause instanceof MotError) return cause;
  const { code: errno = '', message } = cause as NodeJS.ErrnoException;
  return new MotError(code, `${what}: ${reasons[errno] ?? message}.`, { cause });
}

/**
 * Makes a folder and those above it, as far as they are missing.
 *
 * @throws MotError ERR_FILE_WRITE.
 */
export function makeFolder(folder: string): void {
  try {
    // One level at a time: Node's recursive mkdir never returns for some folders that cannot be (in /proc).
    const missing: string[] = [];
    for (let path = folder; !existsSync(path); path = dirname(path)) missing.unshift(path);
    for (const path of missing) mkdirSync(path);
  } catch (cause) {
    throw fileError('ERR_FILE_WRITE', `cannot make the folder ${folder}; choose one that can be written`, cause);
  }
}

/** Removes a file or folder that is of no use any more; a failure to do so must not hide what went wrong before. */
export function removeQuietly(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // It stays.
  }
}

/** SHA-256 and size of a file, read in pieces. */
export function hashFile(path: string): { bytes: number; sha256: string } {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(1 << 20);
  const fd = openSync(path, 'r');
  try {
    let bytes = 0;
    for (let count; (count = readSync(fd, piece, 0, piece.length, null)) > 0; bytes += count)
      hash.update(piece.subarray(0, count));
    return { bytes, sha256: hash.digest('hex') };
  } finally {
    closeSync(fd);
  }
}

/** Makes the names in a folder durable: a rename or a new file survives a power cut. */
export function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes a small file so that a reader sees the old or the new one, never a part: to a temporary name beside it,
 * synced, then renamed.
 *
 * @throws MotError ERR_FILE_WRITE.
 */
export function writeFileAtomic(path: string, text: string): void {
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    const fd = openSync(temporary, 'w');
    try {
      const bytes = Buffer.from(text);
      for (let written = 0; written < bytes.length;) written += writeSync(fd, bytes, written);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (cause) {
    removeQuietly(temporary);
    throw fileError('ERR_FILE_WRITE', `cannot write ${path}`, cause);
  }
}

/** Removes what a killed process has left of {@link writeFileAtomic}. Only where no other process writes that file. */
export function removeLeftovers(path: string): void {
  const begin = `${basename(path)}.tmp-`;
  for (const name of readdirSync(dirname(path)))
    if (name.startsWith(begin) && /^\d+$/.test(name.slice(begin.length))) rmSync(join(dirname(path), name));
}
