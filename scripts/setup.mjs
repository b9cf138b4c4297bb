// Makes a clone ready: installs packages, builds the addon, compiles TypeScript, each only where it is missing or stale.
// Runs before `npm start` and `npm test`; says nothing when there is nothing to do.
//   --tests   the native tests too, where GoogleTest is found
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fail, hashFiles, isFresh, root, run, stamp } from './common.mjs';

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 17))
  fail(`Node.js 20.17 or later is needed, this is ${process.versions.node}; install it from https://nodejs.org.`);

const lock = hashFiles(['package-lock.json']);
if (!packagesAreFresh()) {
  console.log('Installing packages and building the native addon (some minutes the first time) ...');
  if (run('npm', ['ci', '--no-audit', '--no-fund']) !== 0)
    fail('The packages could not be installed; npm says why above. Check the network, then run the command again.');
}
stamp('packages', lock);

const tests = process.argv.includes('--tests') ? ['--tests'] : [];
for (const script of [['native.mjs', ...tests], ['typescript.mjs']]) {
  const [name, ...options] = script;
  if (run(process.execPath, [join(root, 'scripts', name), '--if-stale', ...options]) !== 0) process.exit(1);
}

/** By content, or, where somebody ran npm by hand, by time. */
function packagesAreFresh() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installed)) return false;
  return isFresh('packages', lock) || statSync(installed).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
}
