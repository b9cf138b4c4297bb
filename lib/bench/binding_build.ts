import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { MotError } from '../errors.js';
import { packageRoot } from '../package.js';

/** What each addon of the binding suite exports. */
export interface BindingCalls {
  /** Does nothing. */
  empty(): void;
  /** Reads the pointer of the array and gives its first element. */
  first(array: Float32Array): number;
}

/** The two ways to write an addon: stable Node-API by node-addon-api, V8's own interface by nan. */
export const BINDINGS = ['napi', 'nan'] as const;
export type Binding = (typeof BINDINGS)[number];

const fail = (sentence: string, cause?: unknown): never => {
  throw new MotError('ERR_UNSUPPORTED', `the suite binding builds two small addons: ${sentence}`, { cause });
};

/**
 * Builds the addons of benchmarks/binding where they are missing or older than their sources, and loads them.
 *
 * @param options.folder Where they are built; default `build` beside the sources, by Node's version.
 * @throws MotError ERR_UNSUPPORTED when sources, packages, headers or a compiler are missing, with the remedy.
 */
export function loadBindings(options: { folder?: string } = {}): Record<Binding, BindingCalls> {
  const sources = join(packageRoot(), 'benchmarks', 'binding');
  if (!existsSync(sources)) fail(`${sources} is missing, which only a clone of the repository has; run it there.`);
  const folder = options.folder ?? join(sources, 'build', `${process.version}-${process.arch}`);
  const require = createRequire(import.meta.url);
  return Object.fromEntries(
    BINDINGS.map((binding) => {
      const source = join(sources, `${binding}_calls.cpp`);
      const addon = join(folder, `${binding}_calls.node`);
      if (!existsSync(addon) || statSync(addon).mtimeMs < statSync(source).mtimeMs) compile(binding, source, addon);
      return [binding, require(addon) as BindingCalls];
    }),
  ) as Record<Binding, BindingCalls>;
}

function compile(binding: Binding, source: string, addon: string): void {
  mkdirSync(dirname(addon), { recursive: true });
  const partial = `${addon}.${process.pid}`;
  const args = [
    ...['-std=c++20', '-O3', '-fPIC', '-fvisibility=hidden', '-shared', '-DBUILDING_NODE_EXTENSION'],
    ...(process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : []),
    ...(binding === 'napi' ? ['-DNAPI_VERSION=8', '-DNODE_ADDON_API_CPP_EXCEPTIONS'] : []),
    // As system folders: warnings in them are not ours.
    ...['-isystem', packageFolder(binding === 'napi' ? 'node-addon-api' : 'nan'), '-isystem', nodeHeaders()],
    ...['-o', partial, source],
  ];
  const { error, status, stderr } = spawnSync(compiler(), args, { encoding: 'utf8' });
  if (error || status !== 0) fail(`${source} does not compile: ${error?.message ?? stderr.trim()}`, error);
  renameSync(partial, addon); // whole or not at all, also when two processes build
}

function compiler(): string {
  const found = [process.env['CXX'], 'c++', 'g++', 'clang++'].find(
    (name) => name && !spawnSync(name, ['--version'], { stdio: 'ignore', env: process.env }).error,
  );
  return found ?? fail('there is no C++ compiler; install GCC 11 or Clang 14, or later, or set CXX.');
}

function packageFolder(name: string): string {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
  } catch (cause) {
    return fail(`the package ${name} is not installed; run \`npm ci\`.`, cause);
  }
}

/**
 * The headers of this Node.js, V8's among them: where npm's setting `nodedir` says, beside the program, or in
 * node-gyp's cache, which is filled over the network where they are nowhere else.
 */
function nodeHeaders(): string {
  const cache = (base: string): string => join(base, 'node-gyp', process.versions.node, 'include', 'node');
  const places = [
    ...(process.env['npm_config_nodedir'] ? [join(process.env['npm_config_nodedir'], 'include', 'node')] : []),
    join(dirname(dirname(process.execPath)), 'include', 'node'),
    cache(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')),
    cache(join(homedir(), 'Library', 'Caches')),
  ];
  const find = (): string | undefined => places.find(hasHeaders);
  const found = find();
  if (found !== undefined) return found;
  const gyp = join(packageFolder('node-gyp'), 'bin', 'node-gyp.js');
  const { stderr } = spawnSync(process.execPath, [gyp, 'install'], { encoding: 'utf8' });
  return (
    find() ??
    fail(
      `the headers of Node.js ${process.version} are in none of ${places.join(', ')}, and node-gyp could not fetch them ` +
        `(${stderr.trim().split('\n').at(-1)}); install Node.js from its own archive, which has them, or set npm_config_nodedir.`,
    )
  );
}

/** Whether a folder has V8's headers, of this very version. */
function hasHeaders(folder: string): boolean {
  const version = join(folder, 'node_version.h');
  if (!existsSync(join(folder, 'v8.h')) || !existsSync(version)) return false;
  const text = readFileSync(version, 'utf8');
  const part = (name: string): string | undefined => new RegExp(`#define NODE_${name}_VERSION (\\d+)`).exec(text)?.[1];
  return process.versions.node.startsWith([part('MAJOR'), part('MINOR'), part('PATCH')].join('.'));
}
