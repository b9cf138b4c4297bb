import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../lib/package.js';

interface LockedPackage {
  hasInstallScript?: boolean;
  dev?: boolean;
  resolved?: string;
  integrity?: string;
}

const lock = JSON.parse(readFileSync(join(packageRoot(), 'package-lock.json'), 'utf8')) as {
  packages: Record<string, LockedPackage>;
};
const installed = Object.entries(lock.packages).filter(([name]) => name !== '');

test('no dependency runs a script when it is installed', () => {
  expect(lock.packages['']!.hasInstallScript).toBe(true);
  const scripted = installed.filter(([, { hasInstallScript }]) => hasInstallScript);
  expect(scripted.filter(([, { dev }]) => !dev)).toEqual([]);
  // Of jest, so for development alone: it does nothing unless npm is told to build from source.
  expect(scripted.map(([name]) => name)).toEqual(['node_modules/@parcel/watcher']);
});

test('every dependency is pinned by its hash', () => {
  expect(installed.length).toBeGreaterThan(100);
  expect(installed.filter(([, { integrity }]) => !integrity?.startsWith('sha512-')).map(([name]) => name)).toEqual([]);
});
