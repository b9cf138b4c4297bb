// Writes the JSON Schemas of configs, for editors and `mot init`. Types, bounds and defaults come from the compiled zod
// schemas; a key's description is its doc comment in the source, so that it is written once.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { root } from './common.mjs';

const SOURCE = 'lib/cli/config_schemas';

/** File in dist/lib of each exported schema, and its title. */
const FILES = {
  runConfigFile: ['run.schema.json', 'Run config of mixture-of-transformers (mot train, mot compare)'],
  dataConfigFile: ['data.schema.json', 'Data set config of mixture-of-transformers (mot prepare)'],
};

export async function writeConfigSchemas() {
  const compiled = await import(pathToFileURL(join(root, 'dist', `${SOURCE}.js`)).href);
  for (const [name, [file, title]] of Object.entries(FILES)) {
    const docs = new Map();
    collect(join(root, `${SOURCE}.ts`), ts.factory.createIdentifier(name), '', docs);
    const { $schema, ...schema } = compiled.jsonSchemaOf(compiled[name]);
    describe(schema, '', docs);
    writeFileSync(join(root, 'dist/lib', file), `${JSON.stringify({ $schema, title, ...schema }, null, 2)}\n`);
  }
}

/** Puts descriptions into a JSON Schema. Alternatives, items and values of any key stand at the path of what holds them. */
function describe(schema, path, docs) {
  for (const inner of [...(schema.anyOf ?? []), schema.items, schema.additionalProperties])
    if (typeof inner === 'object') describe(inner, path, docs);
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    const place = `${path}.${key}`;
    if (docs.has(place)) inner.description = docs.get(place);
    describe(inner, place, docs);
  }
}

/** Doc comments of the keys of a schema, by path, from the expression that makes it. */
function collect(file, expression, path, docs) {
  if (ts.isIdentifier(expression)) {
    const found = definition(file, expression.text);
    if (found) collect(found.file, found.value, path, docs);
  } else if (ts.isArrayLiteralExpression(expression)) {
    for (const element of expression.elements) collect(file, element, path, docs);
  } else if (ts.isObjectLiteralExpression(expression)) {
    for (const property of expression.properties) {
      if (ts.isSpreadAssignment(property)) collect(file, property.expression, path, docs);
      if (!ts.isPropertyAssignment(property)) continue;
      const place = `${path}.${property.name.text}`;
      const comment = ts.getTextOfJSDocComment(property.jsDoc?.at(-1)?.comment);
      if (comment) docs.set(place, comment.replace(/\s+/g, ' '));
      collect(file, property.initializer, place, docs);
    }
  } else if (ts.isPropertyAccessExpression(expression)) {
    // `schema.in`, and the receiver of a call.
    collect(file, expression.expression, path, docs);
  } else if (ts.isCallExpression(expression)) {
    // Later ones win: what `extend` is given stands over what is extended.
    collect(file, expression.expression, path, docs);
    for (const argument of expression.arguments) collect(file, argument, path, docs);
  }
}

/** The value of a constant, in its file or the one that it is imported from; destructured ones too. */
function definition(file, name) {
  for (const statement of parse(file).statements) {
    if (ts.isVariableStatement(statement)) {
      for (const { name: bound, initializer } of statement.declarationList.declarations) {
        if (ts.isIdentifier(bound) && bound.text === name) return { file, value: initializer };
        if (!ts.isObjectBindingPattern(bound) || !bound.elements.some((element) => element.name.text === name))
          continue;
        const whole = ts.isIdentifier(initializer) ? definition(file, initializer.text) : undefined;
        const property = whole?.value.properties?.find((candidate) => candidate.name?.text === name);
        if (property) return { file: whole.file, value: property.initializer };
      }
    } else if (ts.isImportDeclaration(statement) && statement.moduleSpecifier.text.startsWith('.')) {
      const names = statement.importClause?.namedBindings?.elements ?? [];
      const source = join(dirname(file), statement.moduleSpecifier.text.replace(/\.js$/, '.ts'));
      if (names.some((element) => element.name.text === name) && existsSync(source)) return definition(source, name);
    }
  }
  return undefined;
}

const parsed = new Map();

function parse(file) {
  if (!parsed.has(file))
    parsed.set(file, ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true));
  return parsed.get(file);
}
