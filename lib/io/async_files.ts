import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

/** As `hashFile` of files.ts, without holding the event loop for longer than a piece takes. */
export async function hashFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  const piece = Buffer.allocUnsafe(1 << 20);
  const file = await open(path);
  try {
    let bytes = 0;
    for (let count; (count = (await file.read(piece, 0, piece.length)).bytesRead) > 0; bytes += count)
      hash.update(piece.subarray(0, count));
    return { bytes, sha256: hash.digest('hex') };
  } finally {
    await file.close();
  }
}

/** As `syncFolder` of files.ts, without holding the event loop. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
