// Compiles lib, test and benchmarks into dist, and writes the JSON Schemas of configs: `npm run build:ts`.
//   --if-stale   only when sources have changed since the last build
import { existsSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fail, filesUnder, hashFiles, isFresh, root, run, stamp } from './common.mjs';

const sources = ['lib', 'test', 'benchmarks'].flatMap((folder) => filesUnder(folder, ['.ts']));
const hash = hashFiles([...sources, 'tsconfig.json', 'scripts/config_schemas.mjs']);
if (process.argv.includes('--if-stale') && existsSync(join(root, 'dist')) && isFresh('typescript', hash))
  process.exit(0);

// What was compiled from a file that is gone would still be imported, or run as a test.
const stems = new Set(sources.map((file) => file.slice(0, -'.ts'.length)));
for (const file of filesUnder('dist', ['.js', '.js.map', '.d.ts'])) {
  const stem = file.slice('dist/'.length).replace(/\.(js|js\.map|d\.ts)$/, '');
  if (!stems.has(stem)) rmSync(join(root, file));
}

let tsc;
try {
  tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
} catch {
  fail('TypeScript is not installed; run `npm ci` first.');
}
if (run(process.execPath, [tsc, '-p', '.']) !== 0) fail('TypeScript found the errors above.');
const { writeConfigSchemas } = await import('./config_schemas.mjs');
await writeConfigSchemas();
stamp('typescript', hash);
