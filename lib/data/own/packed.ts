import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';

/** Whether a file is packed with gzip, by its name. */
export function isPacked(path: string): boolean {
  return /\.(tgz|gz)$/i.test(path);
}

/** The content of a file, unpacked where it is packed. */
export interface OpenBytes {
  /** What is wrong with the file, or with its packing, comes as an error after the bytes before it. */
  chunks: AsyncIterable<Uint8Array>;
  /** Bytes of the file itself that have been read. */
  bytesRead(): number;
  /** Must be called where `chunks` was not read to its end. */
  close(): void;
}

const CHUNK = 1 << 18;

/** Opens a file to be read from its beginning. */
export function openBytes(path: string): OpenBytes {
  if (!isPacked(path)) {
    const chunks = createReadStream(path, { highWaterMark: CHUNK });
    return { chunks, bytesRead: () => chunks.bytesRead, close: () => void chunks.destroy() };
  }
  let bytesRead = 0;
  const chunks = unpack(path, (count) => (bytesRead += count));
  return { chunks, bytesRead: () => bytesRead, close: () => void chunks.return(undefined) };
}

/**
 * The unpacked content of a file. A stream that fails drops what was not taken yet; here all that could be unpacked comes
 * before the error, so that a broken file gives the same documents every time.
 */
async function* unpack(path: string, onRead: (count: number) => void): AsyncGenerator<Uint8Array, void, undefined> {
  const file = await open(path);
  const gunzip = createGunzip({ chunkSize: CHUNK });
  let ready: Uint8Array[] = [];
  let failure: Error | undefined;
  gunzip.on('data', (chunk: Uint8Array) => ready.push(chunk));
  gunzip.on('error', (error) => (failure = error));
  const closed = new Promise<void>((resolve) => gunzip.once('close', resolve));
  try {
    for (let ended = false; !ended;) {
      const { bytesRead, buffer } = await file.read({ buffer: Buffer.allocUnsafe(CHUNK) });
      onRead(bytesRead);
      ended = bytesRead === 0;
      const written = new Promise<void>((resolve) =>
        ended ? gunzip.end() : gunzip.write(buffer.subarray(0, bytesRead), () => resolve()),
      );
      // Where unpacking fails, and at the end, the stream closes.
      await Promise.race([written, closed]);
      const unpacked = ready;
      ready = [];
      yield* unpacked;
      if (failure) throw failure;
    }
  } finally {
    gunzip.destroy();
    await file.close();
  }
}
