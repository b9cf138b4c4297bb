import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { parse } from 'yaml';
import { writeConfigs } from '../../lib/cli/init.js';
import { readComparison } from '../../lib/compare/config.js';
import { modelOfRun, readRunConfig, type RunConfig } from '../../lib/config/run_config.js';
import { detectSources } from '../../lib/data/own/detect.js';
import { readOwnOptions } from '../../lib/data/own/options.js';
import { parquet, png, tar, wav, write } from '../data/own/fixtures.js';

const cli = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
const recipes = fileURLToPath(new URL('../../../recipes/', import.meta.url));
const names = readdirSync(recipes).map((file) => basename(file, '.yaml'));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-init-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function mot(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: folder });
  return { status, stdout, stderr };
}

interface JsonSchema {
  default?: unknown;
  description?: string;
  properties?: Record<string, JsonSchema>;
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  additionalProperties?: JsonSchema | boolean;
}

const schemas = Object.fromEntries(
  (['run', 'data'] as const).map((kind) => [
    kind,
    JSON.parse(readFileSync(new URL(`../../lib/${kind}.schema.json`, import.meta.url), 'utf8')) as JsonSchema,
  ]),
) as Record<'run' | 'data', JsonSchema>;

// A validator that others wrote: eslint's.
type Ajv = { compile(schema: object): ((value: unknown) => boolean) & { errors?: unknown } };
const require = createRequire(import.meta.url);
const AjvClass = createRequire(require.resolve('eslint'))('ajv') as new () => Ajv;
const validators = { run: new AjvClass().compile(schemas.run), data: new AjvClass().compile(schemas.data) };

/** What is wrong with a config, by its JSON Schema. */
function errorsOf(kind: 'run' | 'data', text: string): unknown {
  const valid = validators[kind](parse(text));
  return valid ? [] : validators[kind].errors;
}

describe('JSON Schemas', () => {
  test.each(names)('%s validates', (name) => {
    const text = readFileSync(join(recipes, `${name}.yaml`), 'utf8');
    expect(errorsOf(name === 'own-data' ? 'data' : 'run', text)).toEqual([]);
  });

  test.each([
    ['run', 'train: { lr: 0 }'],
    ['run', 'train: { lrr: 1.0 }'],
    ['run', 'model: { d_model: wide }'],
    ['run', 'model: { preset: chameleon-37n }'],
    ['run', 'compare: { models: { mot: { untid: true } } }'],
    ['run', 'data: { prepare: { concepts: -1 } }'],
    ['data', 'sources: [{ jsonl: a }]'],
    ['data', '{ out: a, sources: [{ jsnl: a }] }'],
    ['data', '{ out: a, sources: [{ parquet: a, columns: [{ caption: b }] }] }'],
  ] as const)('%s: %s does not', (kind, text) => {
    expect(errorsOf(kind, text)).not.toEqual([]);
  });

  test.each(['run', 'data'] as const)('%s describes every key', (kind) => {
    const bare: string[] = [];
    let keys = 0;
    const walk = (schema: JsonSchema, path: string): void => {
      for (const inner of [...(schema.anyOf ?? []), schema.items, schema.additionalProperties])
        if (typeof inner === 'object') walk(inner, path);
      for (const [key, inner] of Object.entries(schema.properties ?? {})) {
        keys++;
        if (!inner.description) bare.push(`${path}.${key}`);
        walk(inner, `${path}.${key}`);
      }
    };
    walk(schemas[kind], '');
    expect(bare).toEqual([]);
    expect(keys).toBeGreaterThan(40);
  });

  test('mot init --schema prints them', () => {
    expect(JSON.parse(mot('init', '--schema', 'data').stdout)).toEqual(schemas.data);
    expect(mot('init', '--schema', 'run').stdout).toContain('"$schema": "http://json-schema.org/draft-07/schema#"');
  });
});

/** The config with its model's defaults too, which are filled in once the data set is known. */
function resolved(config: RunConfig): RunConfig {
  const { latents, spoken } = config.data.prepare;
  const modalities = latents || spoken === 0 ? ['text', 'image'] : ['text', 'image', 'speech'];
  const continuous = latents ? { image: 3 * latents.patch_size ** 2 } : {};
  return { ...config, model: { ...modelOfRun(config, { size: 500, modalities, continuous }) } };
}

/** The config with all defaults that it names set. Keys without default stay comments. */
function uncommented(text: string): string {
  const lines = text.split('\n');
  const isKey = (line: string): boolean => /^ *#[a-z]/.test(line);
  const depth = (line: string): number => line.search(/[^ ]/);
  const opens = (i: number): boolean => {
    const next = lines.slice(i + 1).find((line) => line.trim() !== '');
    return next !== undefined && depth(next) > depth(lines[i]!);
  };
  return lines
    .map((line, i) => (isKey(line) && (/: ./.test(line) || opens(i)) ? line.replace('#', '') : line))
    .join('\n');
}

describe('mot init', () => {
  test.each(names.filter((name) => name !== 'own-data'))(
    'template %s: its settings, and true defaults',
    async (name) => {
      const file = join(folder, `${name}.yaml`);
      expect(await writeConfigs(file, { template: name })).toEqual({ files: [file], notes: [] });
      const text = readFileSync(file, 'utf8');
      const read = (path: string) =>
        name.startsWith('compare')
          ? readComparison(path).runs.map(({ config }) => resolved(config))
          : resolved(readRunConfig(path));
      const recipe = read(join(recipes, `${name}.yaml`));
      expect(read(file)).toEqual(recipe);
      const all = uncommented(text);
      expect(all.split('\n').filter((line, i) => line !== text.split('\n')[i]).length).toBeGreaterThan(15);
      expect(read(write(file, all))).toEqual(recipe);
      for (const version of [text, all]) expect(errorsOf('run', version)).toEqual([]);
    },
  );

  test('names the schema for editors, by a path from the file', () => {
    const { status } = mot('init', 'deep/er');
    expect(status).toBe(0);
    const file = join(folder, 'deep/er/train.yaml');
    const [, schema] = /^# yaml-language-server: \$schema=(\S+)\n/.exec(readFileSync(file, 'utf8'))!;
    expect(JSON.parse(readFileSync(join(folder, 'deep/er', schema!), 'utf8'))).toEqual(schemas.run);
  });

  test('documents of your own: both configs, and the data set can be prepared', () => {
    for (let i = 0; i < 30; i++) write(join(folder, `mine/text/${i}.txt`), `Document ${i}\n\nof two paragraphs.`);
    write(join(folder, 'mine/a.jsonl'), '{"text": "a line"}\n{"text": "another one"}\n');
    const { status, stdout, stderr } = mot('init', 'own', '--data', 'mine');
    expect([status, stdout]).toEqual([0, 'own/data.yaml\nown/train.yaml\n']);
    expect(stderr).toContain('Next: mot prepare own/data.yaml, then mot train own/train.yaml');
    const file = join(folder, 'own/data.yaml');
    const text = readFileSync(file, 'utf8');
    const options = readOwnOptions(file);
    expect(options.sources.map(({ kind, patterns }) => [kind, patterns])).toEqual([
      ['jsonl', ['mine/*.jsonl']],
      ['text', ['mine/**/*.txt']],
    ]);
    expect(errorsOf('data', text)).toEqual([]);
    expect(readOwnOptions(write(file, uncommented(text)))).toEqual(options);
    const run = readRunConfig(join(folder, 'own/train.yaml'));
    expect(run.data.dataset).toBe(options.out);
    const prepared = mot('prepare', 'own/data.yaml', 'tokenizers.text.vocabulary=280', '--json');
    expect([prepared.status, JSON.parse(prepared.stdout)]).toEqual([
      0,
      expect.objectContaining({ folder: options.out, sources: [expect.anything(), expect.anything()] }),
    ]);
  }, 30_000);

  test('keeps what is there unless forced', () => {
    const file = write(join(folder, 'kept/train.yaml'), 'out: mine\n');
    const refused = mot('init', 'kept');
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringMatching(/kept\/train\.yaml exists.*--force/)]);
    expect(readFileSync(file, 'utf8')).toBe('out: mine\n');
    expect(mot('init', 'kept', '--force').status).toBe(0);
    expect(readRunConfig(file).out).toBe('runs/train');
  });

  test.each([
    [['init', '--template', 'strt'], 2, /no template strt; choose of .*start/],
    [['init', 'a.json'], 2, /name ending in \.yaml, got a\.json/],
    [['init', '--schema', 'model'], 2, /--schema must be run or data/],
    [['init', 'x', '--data', 'nowhere'], 1, /there is no file or folder nowhere/],
  ])('mot %j', (args, code, message) => {
    const { status, stderr } = mot(...args);
    expect({ status, stderr }).toMatchObject({ status: code, stderr: expect.stringMatching(message) });
    expect(existsSync(join(folder, 'x'))).toBe(false);
  });
});

describe('what a folder holds', () => {
  test('tars, Parquet with the columns that matter, packed lines, spelling of endings', async () => {
    const root = join(folder, 'dump');
    write(join(root, 'a/0.tar'), tar([{ name: 'a.txt', content: 'a' }]));
    write(join(root, 'a/1.tar.gz'), gzipSync(tar([{ name: 'b.txt', content: 'b' }])));
    write(join(root, 'b.parquet'), parquet([{ caption: 'a row', image: { bytes: png(1), path: '1.png' } }]));
    write(join(root, 'c.JSONL.gz'), gzipSync('{"content": "another key"}\n'));
    write(join(root, 'd.png'), png(2));
    write(join(root, '.hidden.txt'), 'hidden');
    const { sources, notes } = await detectSources(`${root}/`);
    expect(sources).toEqual([
      { jsonl: `${root}/*.JSONL.gz`, columns: [{ text: 'content' }] },
      { webdataset: [`${root}/**/*.tar`, `${root}/**/*.tar.gz`] },
      { parquet: `${root}/*.parquet`, columns: [{ text: 'caption' }, { image: 'image' }] },
    ]);
    expect(notes.join('\n')).toMatch(/keys of .*c\.JSONL\.gz: content; taken: content\./);
    expect(notes.join('\n')).toMatch(/1 pictures or sounds lie there/);
  });

  test('JSON lines with keys of their own: paths that are there, and texts', async () => {
    const root = join(folder, 'imagefolder');
    write(join(root, 'train/0.png'), png(0));
    write(join(root, 'train/0.wav'), wav(1));
    const line = { file_name: '0.png', label: 'a', caption: 'a caption', spoken: '0.wav', width: 8 };
    write(join(root, 'train/metadata.jsonl'), `${JSON.stringify(line)}\n`);
    const { sources, notes } = await detectSources(root);
    const columns = [{ text: 'caption' }, { image: 'file_name' }, { audio: 'spoken' }];
    expect(sources).toEqual([{ jsonl: `${root}/**/*.jsonl`, columns }]);
    expect(notes).toContain(
      `keys of ${root}/train/metadata.jsonl: file_name, label, caption, spoken, width; taken: caption, file_name, spoken.`,
    );
    // Files that do not agree are read as they stand.
    write(join(root, 'train/other.jsonl'), '{"text": "as it should be"}\n');
    expect((await detectSources(root)).sources).toEqual([{ jsonl: `${root}/**/*.jsonl` }]);
  });

  test.each([
    [{ text: 'usual', image: '0.png', id: 'a' }, undefined],
    [{ caption: 'of', image: 'data:image/png;base64,AAAA' }, [{ text: 'caption' }, { image: 'image' }]],
    [{ caption: 'nowhere', image: 'missing.png' }, undefined],
    [{ segments: [{ text: 'a' }], key: 'a' }, undefined],
    [{ note: 'short', body: 'the longest text' }, [{ text: 'body' }]],
    [['text'], undefined],
  ])('JSON lines such as %j', async (line, columns) => {
    const root = join(folder, 'lines');
    write(join(root, '0.png'), png(0));
    write(join(root, 'a.jsonl'), `${JSON.stringify(line)}\n`);
    const { sources } = await detectSources(root);
    expect(sources).toEqual([{ jsonl: `${root}/*.jsonl`, ...(columns ? { columns } : {}) }]);
  });

  test('keys that are not read are told once', async () => {
    const root = join(folder, 'captions');
    write(join(root, '1.jsonl'), '[{"text": "as it should be"}]\n');
    write(join(root, '2.jsonl'), '{"file_name": "a.png", "text": "a caption"}\n');
    write(join(root, '3.jsonl'), '{"file_name": "b.png", "text": "the same keys"}\n');
    const { notes } = await detectSources(root);
    expect(notes.filter((note) => note.startsWith('keys of'))).toEqual([
      `keys of the first line of ${root}/2.jsonl: file_name, text; taken: text.`,
    ]);
  });

  test('captions beside pictures and sounds are joined to them', async () => {
    const root = join(folder, 'pairs');
    for (let i = 0; i < 12; i++) {
      write(join(root, `pictures/${i}.png`), png(i));
      write(join(root, `pictures/${i}.txt`), `picture ${i}\n`);
    }
    write(join(root, '0.txt'), 'both');
    write(join(root, '0.wav'), wav(1));
    write(join(root, '0.jpg'), png(3));
    write(join(root, 'bad.png'), png(1));
    write(join(root, 'bad.txt'), Buffer.from([0xff, 0xfe, 0x41]));
    write(join(root, 'alone.png'), png(1));
    write(join(root, 'notes.txt'), 'of no picture');
    const { status, stdout, stderr } = mot('init', 'pairs', '--data', 'pairs');
    expect([status, stdout]).toEqual([0, 'pairs/documents.jsonl\npairs/data.yaml\npairs/train.yaml\n']);
    expect(stderr).toMatch(/captions: 13 text files.*joined/);
    expect(stderr).toMatch(/bad\.txt is no caption/);
    expect(stderr).toMatch(/1 pictures or sounds lie there/);
    expect(stderr).toContain('Next: mot prepare pairs/data.yaml, then mot train pairs/train.yaml');
    expect(readFileSync(join(root, 'documents.jsonl'), 'utf8').split('\n')[0]).toBe(
      '[{"text":"both"},{"image":"0.jpg"},{"audio":"0.wav"}]',
    );
    // Again, the file of the first time is none of the user's.
    expect(mot('init', 'pairs', '--data', 'pairs', '--force').status).toBe(0);
    const { sources } = readOwnOptions(join(root, 'data.yaml'));
    expect(sources.map(({ kind, patterns }) => [kind, patterns])).toEqual([
      ['jsonl', ['pairs/documents.jsonl']],
      ['text', ['pairs/notes.txt']],
    ]);
    const prepared = mot('prepare', 'pairs/data.yaml', 'out=data/pairs', 'tokenizers.text.vocabulary=280', '--json');
    expect(JSON.parse(prepared.stdout)).toMatchObject({
      sources: [
        { items: 13, skipped: 0, documents: 13 },
        { items: 1, documents: 1 },
      ],
    });
  }, 60_000);

  test('one file is a source by itself; pictures alone are not', async () => {
    const file = write(join(folder, 'one.txt'), 'text');
    expect((await detectSources(file)).sources).toEqual([{ text: file }]);
    write(join(folder, 'pictures/a.png'), png(1));
    await expect(detectSources(join(folder, 'pictures'))).rejects.toMatchObject({
      code: 'ERR_DATA',
      message: expect.stringMatching(/1 pictures or sounds, but nothing that puts them into documents/),
    });
    const broken = write(join(folder, 'broken/a.parquet'), 'PAR1');
    await expect(detectSources(broken)).rejects.toThrow(/a\.parquet cannot be read: it is no Parquet file/);
  });
});
