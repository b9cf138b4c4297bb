import { stringify } from 'yaml';
import { isGroup } from './file.js';

/** What of a JSON Schema a commented config is made from; scripts/config_schemas.mjs writes such schemas. */
export interface ConfigJsonSchema {
  description?: string;
  default?: unknown;
  properties?: Record<string, ConfigJsonSchema>;
  anyOf?: ConfigJsonSchema[];
  items?: ConfigJsonSchema;
}

const WIDTH = 110;

/**
 * A config as YAML with a comment above every key. Keys of `values` are set; all others stand as `#key: DEFAULT`, to be
 * uncommented, or as `#key:` where there is no default, with what the schema says.
 *
 * @param omit Keys (`model.vocab`) that are left out where `values` does not have them.
 */
export function commentedYaml(
  schema: ConfigJsonSchema,
  values: Readonly<Record<string, unknown>>,
  omit: readonly string[] = [],
): string {
  return group(schema, values, '', '', new Set(omit)).join('\n').trim() + '\n';
}

/** The lines of a group's keys. */
function group(
  { properties = {} }: ConfigJsonSchema,
  values: Readonly<Record<string, unknown>>,
  path: string,
  indent: string,
  omit: ReadonlySet<string>,
): string[] {
  const lines: string[] = [];
  for (const [key, schema] of Object.entries(properties)) {
    const name = path + key;
    const value = values[key];
    if (value === undefined && omit.has(name)) continue;
    if (indent === '') lines.push('');
    lines.push(...prose(schema.description ?? '', indent));
    const optional = schema.default === undefined;
    if (Array.isArray(value) && value.every(isGroup)) {
      lines.push(`${indent}${key}:`, ...value.flatMap((item) => listed(schema, item, `${name}.`, indent, omit)));
    } else if (schema.properties && (isGroup(value) || (value === undefined && !(optional && indent !== '')))) {
      // Without any key set the group itself is commented out: a key without value would be null.
      const inside = group(schema, isGroup(value) ? value : {}, `${name}.`, `${indent}  `, omit);
      const mark = inside.some((line) => /^ *[^ #]/.test(line)) ? '' : '#';
      lines.push(`${indent}${mark}${key}:`, ...inside);
    } else if (value !== undefined) lines.push(`${indent}${key}: ${inline(value)}`);
    else lines.push(`${indent}#${key}:${optional ? '' : ` ${inline(schema.default)}`}`);
  }
  return lines;
}

/** One item of a list of groups, by the alternative of the schema that has its first key. */
function listed(
  { items }: ConfigJsonSchema,
  value: Record<string, unknown>,
  path: string,
  indent: string,
  omit: ReadonlySet<string>,
): string[] {
  const first = Object.keys(value)[0]!;
  const schema = [...(items?.anyOf ?? []), items].find((option) => option?.properties?.[first]);
  const lines = group(schema ?? {}, value, path, `${indent}    `, omit);
  // The dash stands before the first key that is set, which is the one that says what the item is.
  const at = lines.findIndex((line) => /^ *[^ #]/.test(line));
  lines[at] = `${indent}  - ${lines[at]!.trimStart()}`;
  return lines.map((line, i) => (i < at ? line.slice(2) : line));
}

function inline(value: unknown): string {
  return stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trimEnd();
}

/** A text as comment lines. */
function prose(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ').filter(Boolean)) {
    if (line !== '' && indent.length + line.length + word.length + 3 > WIDTH) {
      lines.push(`${indent}# ${line}`);
      line = '';
    }
    line += (line === '' ? '' : ' ') + word;
  }
  return line === '' ? lines : [...lines, `${indent}# ${line}`];
}
