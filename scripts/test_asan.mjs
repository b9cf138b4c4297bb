// Builds the native tests with the address and undefined-behaviour sanitizers into build-asan and runs them.
// Arguments go to ctest: `npm run test:asan -- -R Safetensors`.
import { availableParallelism } from 'node:os';
import { fail, run } from './common.mjs';

const jobs = String(availableParallelism());
const configure = [
  '-S',
  '.',
  '-B',
  'build-asan',
  '-DMOT_TESTS=ON',
  '-DMOT_SANITIZE=ON',
  '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
];
if (run('cmake', configure) !== 0)
  fail(
    'The sanitizer build needs cmake, a compiler and GoogleTest (on Debian and Ubuntu: apt-get install libgtest-dev).',
  );
if (run('cmake', ['--build', 'build-asan', '--target', 'mot_tests', '--parallel', jobs]) !== 0)
  fail('The sanitizer build failed; the compiler says why above.');
const options = ['--test-dir', 'build-asan', '--parallel', jobs, '--output-on-failure', '--timeout', '900'];
process.exit(run('ctest', [...options, ...process.argv.slice(2)], { env: { UBSAN_OPTIONS: 'print_stacktrace=1' } }));
