// Formats C++ with clang-format, TypeScript, JavaScript, JSON and YAML with prettier.
//   --check   changes nothing; fails where a file is not formatted
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { filesUnder, run } from './common.mjs';

const check = process.argv.includes('--check');
const require = createRequire(import.meta.url);
const clangFormat = join(dirname(require.resolve('clang-format/package.json')), 'index.js');
const prettier = join(dirname(require.resolve('prettier/package.json')), 'bin', 'prettier.cjs');
const native = ['native', 'test/native', 'benchmarks'].flatMap((folder) =>
  filesUnder(folder, ['.cpp', '.h']).filter((file) => !file.includes('node_modules')),
);

const statuses = [
  run(process.execPath, [clangFormat, ...(check ? ['--dry-run', '-Werror'] : ['-i']), ...native]),
  run(process.execPath, [prettier, check ? '--check' : '--write', '--log-level', 'warn', '.']),
];
process.exit(statuses.some((status) => status !== 0) ? 1 : 0);
