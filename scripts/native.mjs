// Builds the native addon into build/Release/mot.node: `npm run build:native`, npm's install script, and node-gyp through
// binding.gyp all come here.
//   --if-stale   only when sources have changed since the last build
//   --tests      the native tests too, where GoogleTest is found
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { fail, filesUnder, hashFiles, hasProgram, isFresh, root, run, stamp } from './common.mjs';

const tests = process.argv.includes('--tests');
const step = tests ? 'native tests' : 'native';
const addon = join(root, 'build', 'Release', 'mot.node');

const sources = ['native', ...(tests ? ['test/native'] : [])].flatMap((folder) => filesUnder(folder, ['.cpp', '.h']));
const hash = hashFiles([...sources, 'CMakeLists.txt', 'package.json']);
if (process.argv.includes('--if-stale') && existsSync(addon) && isFresh(step, hash)) process.exit(0);

const install =
  platform() === 'darwin' ? 'xcode-select --install && brew install cmake' : 'apt-get install g++ cmake make';
if (!hasProgram('cmake') || ![process.env.CXX, 'c++', 'g++', 'clang++'].some((name) => name && hasProgram(name)))
  fail(
    `The native addon needs cmake 3.22 and a C++20 compiler (GCC 11 or Clang 14, or later); install them: ${install}`,
  );

let cmakeJs;
try {
  cmakeJs = join(dirname(createRequire(import.meta.url).resolve('cmake-js/package.json')), 'bin', 'cmake-js');
} catch {
  fail('cmake-js is not installed; run `npm ci` first.');
}

const options = ['--out', 'build-cmake', '--config', 'Release', '--log-level', 'warn'];
const define = `--CDMOT_TESTS=${tests ? 'AUTO' : 'OFF'}`;
// In two: `build` alone leaves the options of an earlier configuration as they were.
const status =
  run(process.execPath, [cmakeJs, 'configure', ...options, define]) ||
  run(process.execPath, [cmakeJs, 'build', ...options, define, '--parallel', String(availableParallelism())]);
if (status !== 0)
  fail(
    'The native addon did not build; the compiler says why above. It needs GCC 11, Clang 14 or later; if build-cmake/ is ' +
      'from another machine or compiler, remove it.',
  );
stamp(step, hash);
// Configured without them, ctest knows no native tests, even where their program is still there.
if (!tests) stamp('native tests', '');
