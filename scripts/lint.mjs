// Everything that is checked without running it: format, types, eslint.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { root, run } from './common.mjs';

const require = createRequire(import.meta.url);
const eslint = join(dirname(require.resolve('eslint/package.json')), 'bin', 'eslint.js');
const statuses = [
  run(process.execPath, [join(root, 'scripts', 'format.mjs'), '--check']),
  run(process.execPath, [require.resolve('typescript/bin/tsc'), '-p', '.', '--noEmit', '--incremental', 'false']),
  run(process.execPath, [eslint, '--max-warnings', '0', '.']),
];
process.exit(statuses.some((status) => status !== 0) ? 1 : 0);
