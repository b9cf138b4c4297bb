import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';

/** A file of a source. */
export interface SourceFile {
  path: string;
  bytes: number;
  /** Time of the last change, ms. */
  changed: number;
}

/**
 * The regular files that a path pattern names, sorted: `*` and `?` within a name, `**` over folders, `{a,b}` and
 * `{000..099}` alternatives. A path without these names itself. Links are followed by name, `**` does not enter them.
 */
export function findFiles(pattern: string): SourceFile[] {
  const found = new Map<string, SourceFile>();
  for (const plain of expandBraces(pattern))
    for (const name of walk(plain)) {
      const info = statSync(name, { throwIfNoEntry: false });
      if (info?.isFile()) found.set(name, { path: name, bytes: info.size, changed: info.mtimeMs });
    }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

function expandBraces(pattern: string): string[] {
  const match = /\{([^{}]*)\}/.exec(pattern);
  if (!match) return [pattern];
  const range = /^(\d+)\.\.(\d+)$/.exec(match[1]!);
  let options = match[1]!.split(',');
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2])];
    options = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) =>
      String(first + i).padStart(range[1]!.length, '0'),
    );
  }
  if (!range && options.length === 1) return [pattern];
  return options.flatMap((option) =>
    expandBraces(pattern.slice(0, match.index) + option + pattern.slice(match.index + match[0].length)),
  );
}

function walk(pattern: string): string[] {
  const parts = pattern.split('/');
  const wild = parts.findIndex((part) => /[*?]/.test(part));
  // A file whose name holds these characters is meant by its name.
  if (wild < 0 || statSync(pattern, { throwIfNoEntry: false })?.isFile()) return [pattern];
  return match(parts.slice(0, wild).join('/') || (pattern.startsWith('/') ? '/' : '.'), parts.slice(wild));
}

function match(folder: string, parts: readonly string[]): string[] {
  const [part, ...rest] = parts;
  let entries;
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
  if (part === '**') {
    const below = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'));
    return [
      ...(rest.length > 0 ? match(folder, rest) : entries.map(({ name }) => path.join(folder, name))),
      ...below.flatMap(({ name }) => match(path.join(folder, name), parts)),
    ];
  }
  const escaped = part!.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*');
  const name = new RegExp(`^${escaped.replace(/\?/g, '.')}$`, 'su');
  const names = entries.filter(
    (entry) => name.test(entry.name) && (part!.startsWith('.') || !entry.name.startsWith('.')),
  );
  if (rest.length === 0) return names.map((entry) => path.join(folder, entry.name));
  return names.flatMap((entry) => match(path.join(folder, entry.name), rest));
}
