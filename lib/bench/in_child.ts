import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { MotError } from '../errors.js';

/** Runs child.js in a process of its own and gives what it prints. */
export function inChild<T>(...args: string[]): T {
  const script = fileURLToPath(new URL('./child.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  if (status !== 0)
    throw new MotError('ERR_INTERNAL', `a process of the benchmark ended with ${status}: ${stderr.trim()}`);
  return JSON.parse(stdout) as T;
}
