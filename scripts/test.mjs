// Runs the tests: jest on what TypeScript compiled, and the native tests through ctest where they were built. The last
// line sums up both. Names or paths given as arguments choose among jest's tests (the native ones are then left out).
//   --all   also what takes longer: tests named *.slow.test.ts, and more runs of those that fuzz (MOT_TEST_ALL=1)
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { hasProgram, root, run } from './common.mjs';

const all = process.argv.includes('--all');
const chosen = process.argv.slice(2).filter((argument) => argument !== '--all');
const folder = mkdtempSync(join(tmpdir(), 'mot-test-'));
let result;
try {
  result = [runJest(), ...(chosen.length > 0 ? [] : [runNative()])];
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const sum = (key) => result.reduce((total, part) => total + part[key], 0);
const skipped = sum('skipped');
console.log(`${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exit(result.some((part) => part.failed > 0 || part.status !== 0) || sum('passed') === 0 ? 1 : 0);

function runJest() {
  const jest = join(dirname(createRequire(import.meta.url).resolve('jest/package.json')), 'bin', 'jest.js');
  const report = join(folder, 'jest.json');
  const status = run(
    process.execPath,
    ['--experimental-vm-modules', '--no-warnings', jest, '--json', `--outputFile=${report}`, ...chosen],
    { env: { MOT_TEST_ALL: all ? '1' : '' }, stdio: ['ignore', 'ignore', 'inherit'] },
  );
  if (!existsSync(report)) return { passed: 0, failed: 1, skipped: 0, status };
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, numRuntimeErrorTestSuites } = JSON.parse(
    readFileSync(report, 'utf8'),
  );
  return {
    passed: numPassedTests,
    failed: numFailedTests + numRuntimeErrorTestSuites,
    skipped: numPendingTests + numTodoTests,
    status,
  };
}

function runNative() {
  const none = { passed: 0, failed: 0, skipped: 0, status: 0 };
  const build = join(root, 'build-cmake');
  if (!existsSync(join(build, 'CTestTestfile.cmake')) || !hasProgram('ctest')) {
    console.log(
      'The native tests are skipped: GoogleTest was not found (on Debian and Ubuntu: apt-get install libgtest-dev).',
    );
    return none;
  }
  const report = join(folder, 'ctest.xml');
  const status = run(
    'ctest',
    [
      '--test-dir',
      build,
      '--parallel',
      String(availableParallelism()),
      '--output-on-failure',
      '--progress',
      '--timeout',
      '600',
      '--output-junit',
      report,
    ],
    { env: { MOT_TEST_ALL: all ? '1' : '' } },
  );
  if (!existsSync(report)) return { ...none, failed: 1, status };
  const suite = /<testsuite[^>]*>/.exec(readFileSync(report, 'utf8'))[0];
  const count = (key) => Number(new RegExp(`\\s${key}="(\\d+)"`).exec(suite)?.[1] ?? 0);
  const failed = count('failures');
  const skipped = count('skipped') + count('disabled');
  return { passed: count('tests') - failed - skipped, failed, skipped, status };
}
