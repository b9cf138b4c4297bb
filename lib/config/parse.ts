import { z } from 'zod';
import { MotError, type MotErrorCode } from '../errors.js';
import { nearest } from './nearest.js';

/** Where a value stands in a config: keys and indices from the root. */
export type KeyPath = readonly PropertyKey[];

/** How messages call a key: `train.lr`, `model.modalities[1]`. */
export function pathName(path: KeyPath): string {
  return path.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name === '' ? String(key) : `${name}.${String(key)}`),
    '',
  );
}

/** Keys that a schema knows at a path, to suggest one for a misspelt key. */
export function knownKeys(schema: z.ZodType, path: KeyPath): string[] {
  const inside = alternatives(schema);
  if (path.length === 0)
    return inside.flatMap((option) => (option instanceof z.ZodObject ? Object.keys(option.shape as object) : []));
  const [key, ...rest] = path;
  return inside.flatMap((option) => {
    let next: unknown;
    if (option instanceof z.ZodObject) next = (option.shape as Record<PropertyKey, unknown>)[key!];
    else if (option instanceof z.ZodRecord) next = option.valueType;
    else if (option instanceof z.ZodArray) next = option.element;
    return next instanceof z.ZodType ? knownKeys(next, rest) : [];
  });
}

/** The schemas behind defaults, optionals and unions. */
function alternatives(schema: z.ZodType): z.ZodType[] {
  if (schema instanceof z.ZodUnion) return schema.options.flatMap((option) => alternatives(option as z.ZodType));
  if (
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable
  )
    return alternatives(schema.unwrap() as z.ZodType);
  if (schema instanceof z.ZodPipe) return alternatives(schema.in as z.ZodType);
  return [schema];
}

/** One value as it appears in messages: short, on one line. */
export function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value));
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function valueAt(root: unknown, path: KeyPath): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    root,
  );
}

function describeIssue(issue: z.core.$ZodIssue, schema: z.ZodType, root: unknown): string[] {
  const name = pathName(issue.path) || 'the top level';
  const got = show(valueAt(root, issue.path));
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => {
        const known = knownKeys(schema, issue.path);
        const suggestion = nearest(key, known);
        const hint = suggestion ? `did you mean ${suggestion}?` : `known keys: ${known.join(', ')}`;
        return `unknown key ${pathName([...issue.path, key])}; ${hint}`;
      });
    case 'invalid_type':
      if (valueAt(root, issue.path) === undefined) return [`${name} is missing; it needs ${article(issue.expected)}`];
      return [`${name} must be ${article(issue.expected)}, got ${got}`];
    case 'invalid_value': {
      const values = issue.values.map(show).join(' or ');
      const suggestion = nearest(
        String(valueAt(root, issue.path)),
        issue.values.map((value) => String(value)),
      );
      return [`${name} must be ${values}, got ${got}${suggestion ? `; did you mean ${suggestion}?` : ''}`];
    }
    case 'too_small':
      return [`${name} must be ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}, got ${got}`];
    case 'too_big':
      return [`${name} must be ${issue.inclusive === false ? 'less than' : 'at most'} ${issue.maximum}, got ${got}`];
    case 'custom':
      return [issue.path.length ? `${name}: ${issue.message}` : issue.message];
    case 'invalid_union': {
      // Of the alternatives the one whose kind of value was given, if only one is.
      const near = issue.errors.filter(
        (inner) => !inner.some(({ code, path }) => code === 'invalid_type' && !path.length),
      );
      if (near.length === 1)
        return near[0]!.flatMap((inner) =>
          describeIssue({ ...inner, path: [...issue.path, ...inner.path] }, schema, root),
        );
      return [`${name}: ${issue.message}, got ${got}`];
    }
    default:
      return [`${name}: ${issue.message}, got ${got}`];
  }
}

function article(type: string): string {
  const names: Record<string, string> = {
    int: 'a whole number',
    number: 'a number',
    string: 'a text',
    boolean: 'true or false',
    array: 'a list',
    object: 'a group of keys',
    record: 'a group of keys',
  };
  return names[type] ?? type;
}

/**
 * Checks a value against a schema.
 *
 * @param what How messages call the whole: `run config`, `options of train`.
 * @param where Place of a key in its file, to stand before the message; default none.
 * @throws MotError with all that is wrong, one sentence each; an unknown key comes with the nearest known one.
 */
export function parseWith<S extends z.ZodType>(
  schema: S,
  value: unknown,
  what: string,
  options: { code?: MotErrorCode; where?: (path: KeyPath) => string } = {},
): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const sentences = result.error.issues.flatMap((issue) => {
    const path = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : issue.path;
    const place = options.where?.(path) ?? '';
    return describeIssue(issue, schema, value).map((sentence) => `${place}${sentence}`);
  });
  const text = sentences.join('; ');
  throw new MotError(options.code ?? 'ERR_CONFIG', `${what}: ${text}${text.endsWith('?') ? '' : '.'}`);
}
