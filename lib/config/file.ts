import { readFileSync } from 'node:fs';
import { isMap, isNode, LineCounter, parse, parseDocument, type Document } from 'yaml';
import { MotError } from '../errors.js';
import { show, type KeyPath } from './parse.js';

/** A config as read: plain values, and where each key stands. */
export interface ConfigSource {
  value: Record<string, unknown>;
  /** `recipes/start.yaml:12: ` of a key, `override train.lr: ` of one set on the command line, or ''. */
  where(path: KeyPath): string;
}

/** Reads a YAML or JSON file (JSON is YAML). MotError ERR_FILE_OPEN, or ERR_CONFIG with line and column. */
export function readConfigFile(path: string): ConfigSource {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (cause as Error).message;
    throw new MotError('ERR_FILE_OPEN', `cannot read the config ${path}: ${reason}.`, { cause });
  }
  return parseConfigText(text, path);
}

/** The same from a text; `name` stands for the file in messages. */
export function parseConfigText(text: string, name: string): ConfigSource {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: true });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lines.linePos(error.pos[0]);
    const reason = error.message.split(/ at line|\n/)[0]!;
    throw new MotError('ERR_CONFIG', `${name}:${line}:${col}: not valid YAML or JSON: ${reason}.`, { cause: error });
  }
  const value: unknown = document.toJS() ?? {};
  if (!isGroup(value)) throw new MotError('ERR_CONFIG', `${name} must hold keys with values, got ${show(value)}.`);
  return { value, where: (path) => place(document, lines, name, path) };
}

/** Line of a key, or of the nearest key above it that the file has. */
function place(document: Document, lines: LineCounter, name: string, path: KeyPath): string {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    const key = path[length - 1];
    let node: unknown = document.getIn(path.slice(0, length), true);
    if (isMap(parent)) node = parent.items.find((item) => isNode(item.key) && item.key.toJSON() === key)?.key ?? node;
    if (isNode(node) && node.range) return `${name}:${lines.linePos(node.range[0]).line}: `;
  }
  return `${name}: `;
}

/** Whether a value is a group of keys. */
export function isGroup(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Puts `key=value` overrides over a config: keys dotted (`model.d_model=128`), values as in YAML (`null`, `[1, 2]`,
 * `text`). The source is left as it was.
 *
 * @param alternatives Dotted keys that say the same in two ways: an override of one takes the place of the other, too.
 * @throws MotError ERR_USAGE for one without `=`, or a key that goes through something that is not a group.
 */
export function applyOverrides(
  source: ConfigSource,
  overrides: readonly string[],
  alternatives: readonly (readonly [string, string])[] = [],
): ConfigSource {
  const value = structuredClone(source.value);
  const set = new Set<string>();
  for (const override of overrides) {
    const equals = override.indexOf('=');
    const name = override.slice(0, Math.max(equals, 0)).trim();
    if (name === '')
      throw new MotError('ERR_USAGE', `expected key=value (such as train.lr=0.001), got ${show(override)}.`);
    let parsed: unknown;
    try {
      parsed = parse(override.slice(equals + 1));
    } catch (cause) {
      const reason = (cause as Error).message.split(/ at line|\n/)[0]!;
      throw new MotError('ERR_USAGE', `the value of ${name} is not valid YAML: ${reason}.`, { cause });
    }
    const keys = name.split('.');
    let group = value;
    for (const [i, key] of keys.slice(0, -1).entries()) {
      const next = own(group, key) ?? {};
      if (!isGroup(next)) {
        const above = keys.slice(0, i + 1).join('.');
        throw new MotError('ERR_USAGE', `cannot set ${name}: ${above} is ${show(next)}, not a group of keys.`);
      }
      define(group, key, next);
      group = next;
    }
    define(group, keys.at(-1)!, parsed);
    set.add(name);
  }
  for (const [one, other] of alternatives) {
    if (set.has(one) && !set.has(other)) remove(value, other);
    if (set.has(other) && !set.has(one)) remove(value, one);
  }
  const where = (path: KeyPath): string => {
    const name = path.map(String);
    for (let length = name.length; length > 0; length--) {
      const prefix = name.slice(0, length).join('.');
      if (set.has(prefix)) return `override ${prefix}: `;
    }
    return source.where(path);
  };
  return { value, where };
}

// `__proto__` in a file or override is a key like any other (and then an unknown one).
function own(group: Record<string, unknown>, key: string): unknown {
  return Object.hasOwn(group, key) ? group[key] : undefined;
}

/** Removes a dotted key, where it is. */
function remove(value: Record<string, unknown>, name: string): void {
  const keys = name.split('.');
  let group: unknown = value;
  for (const key of keys.slice(0, -1)) group = isGroup(group) ? own(group, key) : undefined;
  if (isGroup(group)) delete group[keys.at(-1)!];
}

function define(group: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(group, key, { value, writable: true, enumerable: true, configurable: true });
}
