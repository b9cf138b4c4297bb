import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';

const PIECE = 1 << 20;

/** As `hashFile` of files.ts, without holding the event loop for longer than a piece takes. */
export async function hashFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  // While one piece is hashed the next one is read.
  let [piece, spare] = [Buffer.allocUnsafe(PIECE), Buffer.allocUnsafe(PIECE)];
  const file = await open(path);
  try {
    let bytes = 0;
    let reading = file.read(piece, 0, PIECE);
    for (let count; (count = (await reading).bytesRead) > 0; bytes += count) {
      reading = file.read(spare, 0, PIECE);
      hash.update(piece.subarray(0, count));
      [piece, spare] = [spare, piece];
    }
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
