// What the build scripts share. Only Node's own modules: these run before anything is installed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of package.json. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const stampFile = join(root, '.setup.json');

/** All files under `path` (a file or a folder of the package) whose names end in one of `endings`, sorted. */
export function filesUnder(path, endings) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (endings.some((ending) => path.endsWith(ending))) return [path];
  return readdirSync(full, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

/** Hash of the names and contents of files, given relative to the package. */
export function hashFiles(files) {
  const hash = createHash('sha256');
  for (const file of files)
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(root, file)))
      .update('\0');
  return hash.digest('hex');
}

function readStamps() {
  try {
    return JSON.parse(readFileSync(stampFile, 'utf8'));
  } catch {
    return {};
  }
}

/** True when `step` was last done from sources of this hash. */
export function isFresh(step, hash) {
  return readStamps()[step] === hash;
}

/** Notes that `step` is done. A package in a folder that cannot be written builds again each time. */
export function stamp(step, hash) {
  try {
    writeFileSync(stampFile, `${JSON.stringify({ ...readStamps(), [step]: hash }, null, 2)}\n`);
  } catch {
    // As said.
  }
}

/** Runs a program in the package's folder with our output; gives its exit status. */
export function run(program, args, options = {}) {
  const { env, ...rest } = options;
  const result = spawnSync(program, args, {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
    ...rest,
  });
  if (result.error) throw result.error;
  return result.status ?? 1;
}

/** True when a program can be started. */
export function hasProgram(name) {
  return !spawnSync(name, ['--version'], { stdio: 'ignore' }).error;
}

/** Ends the script with one sentence. */
export function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}
