import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MotError, type MotErrorCode } from '../errors.js';
import type { NativeAddon } from './types.js';

/** Version of the contract in types.ts; the addon carries the same number (native/addon/addon.cpp). */
const CONTRACT_VERSION = 7;

let loaded: { addon: NativeAddon; path: string } | undefined;

/**
 * The native addon, loaded at the first call. Everything that it throws or rejects with arrives as a MotError whose
 * stack shows the caller.
 *
 * @throws MotError ERR_ADDON when it cannot be loaded; the message lists every place tried and the remedy.
 */
export function loadAddon(): NativeAddon {
  return load().addon;
}

/** The file that the addon was loaded from. MotError ERR_ADDON. */
export function addonPath(): string {
  return load().path;
}

function load(): { addon: NativeAddon; path: string } {
  if (!loaded) {
    const { addon, path } = loadBinding(packageRoot());
    loaded = { addon: wrapCalls(addon), path };
  }
  return loaded;
}

/** The folder of package.json: two or three levels up, as this file runs from lib/native or dist/lib/native. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}

function loadBinding(root: string): { addon: NativeAddon; path: string } {
  const require = createRequire(import.meta.url);
  const remedy =
    existsSync(join(root, 'node_modules')) && existsSync(join(root, 'tsconfig.json'))
      ? 'run `npm run build`'
      : 'run `npm rebuild mixture-of-transformers`, with a C++20 compiler (GCC 11 or Clang 14, or later) and cmake installed';
  let path: string;
  let addon: NativeAddon;
  try {
    const bindings = require('bindings') as (options: { bindings: string; module_root: string; path: true }) => string;
    path = bindings({ bindings: 'mot', module_root: root, path: true });
    addon = require(path) as NativeAddon;
  } catch (cause) {
    const { tries } = cause as { tries?: string[] };
    const reason = tries ? `none of these exists: ${tries.join(', ')}` : (cause as Error).message;
    throw new MotError('ERR_ADDON', `cannot load the native addon: ${reason}; ${remedy}.`, { cause });
  }
  if (addon.version !== CONTRACT_VERSION) {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    throw new MotError(
      'ERR_ADDON',
      `the native addon under ${root} has contract version ${addon.version}, but package version ${version} needs ` +
        `${CONTRACT_VERSION}; ${remedy}.`,
    );
  }
  return { addon, path };
}

type Callable = (...args: unknown[]) => unknown;

/** Objects that go back into the addon as they came. */
const OPAQUE = new Set(['createAbort']);

/** The same methods, with native errors turned into MotErrors; the objects that they return are wrapped likewise. */
function wrapCalls<T extends object>(native: T): T {
  const wrapped: Record<string, unknown> = {};
  const names = new Set<string>();
  for (let o: object = native; o !== Object.prototype && o !== null; o = Object.getPrototypeOf(o) as object)
    for (const name of Object.getOwnPropertyNames(o)) if (name !== 'constructor') names.add(name);
  for (const name of names) {
    const value = (native as Record<string, unknown>)[name];
    wrapped[name] = typeof value === 'function' ? wrapCall(native, name, value as Callable) : value;
  }
  return wrapped as T;
}

function wrapCall(native: object, name: string, method: Callable): Callable {
  const finish = OPAQUE.has(name) ? (result: unknown) => result : wrapResult;
  const call: Callable = (...args) => {
    // Native errors know nothing of the JavaScript stack, and promises are rejected when the caller is long gone.
    const trace: { stack?: string } = {};
    Error.captureStackTrace(trace, call);
    try {
      const result = method.apply(native, args);
      if (!isPromise(result)) return finish(result);
      return result.then(finish, (error: unknown) => {
        throw toMotError(error, trace);
      });
    } catch (error) {
      throw toMotError(error, trace);
    }
  };
  return call;
}

/** Sessions and open files have methods; everything else is plain data. */
function wrapResult(result: unknown): unknown {
  if (typeof result !== 'object' || result === null || Array.isArray(result) || ArrayBuffer.isView(result))
    return result;
  const prototype = Object.getPrototypeOf(result) as object | null;
  const methods = prototype && ('dispose' in prototype || 'close' in prototype);
  return methods ? wrapCalls(result) : result;
}

// Not instanceof: test runners have globals of their own.
function isPromise(value: unknown): value is Promise<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

function toMotError(error: unknown, trace: { stack?: string }): MotError {
  const { code = 'ERR_INTERNAL', message } = error as { code?: MotErrorCode; message: string };
  const result = new MotError(code, message, { cause: error });
  const frames = trace.stack?.slice(trace.stack.indexOf('\n')) ?? '';
  result.stack = `${result.name} [${code}]: ${message}${frames}`;
  return result;
}
