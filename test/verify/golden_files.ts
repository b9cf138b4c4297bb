import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/package.js';

export const goldenFolder = join(packageRoot(), 'test', 'golden');

export const goldenCases = readdirSync(goldenFolder)
  .filter((name) => name.endsWith('.safetensors'))
  .map((name) => name.slice(0, -'.safetensors'.length));

export function goldenPath(name: string): string {
  return join(goldenFolder, `${name}.safetensors`);
}

interface Header {
  [tensor: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
}

/** Tensors of a safetensors file, read without the code under test. */
export function readHeader(path: string): { bytes: Buffer; header: Header; data: number } {
  const bytes = readFileSync(path);
  const data = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, data)) as Header;
  delete header['__metadata__'];
  return { bytes, header, data };
}

/** A copy of a golden file with one number changed. */
export function alter(
  from: string,
  to: string,
  tensor: string,
  index: number,
  change: (value: number) => number,
): void {
  const { bytes, header, data } = readHeader(from);
  const at = data + header[tensor]!.data_offsets[0] + 4 * index;
  bytes.writeFloatLE(change(bytes.readFloatLE(at)), at);
  writeFileSync(to, bytes);
}
