import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import sharp from 'sharp';
import { openSplit, readManifest } from '../../../lib/data/manifest.js';
import { splitSpans } from '../../../lib/modalities/registry.js';
import { options, png, skippedOf, write } from './fixtures.js';

const cli = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));
const example = (name: string): string => fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mot-modules-'));
  copyFileSync(example('series'), join(folder, 'series.mjs'));
  copyFileSync(example('onnx_image'), join(folder, 'onnx_image.mjs'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function mot(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: folder });
  return { status, stdout, stderr };
}

const RUN = `model: {d_model: 32, n_layers: 1, n_heads: 4, head_dim: 8, ffn_dim: 48}
train: {steps: 3, warmup_steps: 1, sequences: 4, seq_len: 128, threads: 1}
`;

const SERIES = `out: series
sources: [{jsonl: series.jsonl}]
tokenizers: {text: {vocabulary: 280}, own: {wave: {module: series.mjs, options: {bins: 32}}}}
split: {validation: 0.1}
`;

describe('a modality of one file: a time series', () => {
  const wave = (i: number): number[] => Array.from({ length: 12 }, (_, t) => Math.sin(t * (0.2 + 0.01 * i)));
  beforeAll(() => {
    const lines = Array.from({ length: 60 }, (_, i) => JSON.stringify([{ text: `wave ${i}` }, { wave: wave(i) }]));
    write(join(folder, 'series.jsonl'), [...lines, '{"wave": "no list"}', '{"wave": [1, null]}'].join('\n'));
    write(join(folder, 'series.yaml'), SERIES);
    write(join(folder, 'run.yaml'), RUN);
  });

  test('is prepared: ids decode to the values, what the module refuses is named', async () => {
    expect(mot('prepare', 'series.yaml')).toMatchObject({ status: 0 });
    const dataset = join(folder, 'series');
    const manifest = readManifest(dataset);
    expect(manifest.vocabulary.modalities).toEqual(['text', 'wave']);
    expect(manifest.vocabulary.ranges['wave']!.end - manifest.vocabulary.ranges['wave']!.begin).toBe(32);
    const source = await openSplit(dataset, manifest, 'train');
    const spans = splitSpans(source.read(0).token, manifest.vocabulary);
    source.close();
    expect(spans.map(({ modality, ids }) => [modality, ids.length])).toEqual([
      ['text', expect.any(Number)],
      ['wave', 12],
    ]);
    expect(skippedOf(dataset).map(({ line, reason }) => [line, reason])).toEqual([
      [61, 'wave: a series is a list of finite numbers'],
      [62, 'wave: a series is a list of finite numbers'],
    ]);
    const { stdout } = mot('data', 'inspect', 'series', '--samples', '1');
    const [, i, values] = /wave (\d+) (\[[^\]]+\])/.exec(stdout)!;
    const decoded = JSON.parse(values!) as number[];
    expect(decoded).toHaveLength(12);
    decoded.forEach((value, t) => expect(Math.abs(value - wave(Number(i))[t]!)).toBeLessThan(1 / 16));
  }, 60_000);

  test('is trained on, and generated, in a tower of its own', () => {
    const train = mot('train', 'run.yaml', 'data.dataset=series', 'out=run');
    expect([train.status, train.stderr]).toEqual([0, expect.stringContaining('step 3/3')]);
    const args = ['generate', 'run', '--segment', 'wave=[0, 0.2, 0.4]', '--output', 'wave', '--max-tokens', '5'];
    const drawn = mot(...args, '--temperature', '0');
    expect([drawn.status, drawn.stderr]).toEqual([0, '']);
    const series = JSON.parse(drawn.stdout) as number[];
    expect(series.length).toBeGreaterThan(0);
    for (const value of series) expect(Math.abs(value)).toBeLessThanOrEqual(1);
    const described = mot('generate', 'run', '--text', 'wave 1', '--segment', 'wave=[0]', '--max-tokens', '1');
    expect([described.status, described.stderr]).toEqual([0, '']);
    expect(mot('generate', 'run', '--segment', 'wave={}').stderr).toMatch(/--segment wave: a series is a list/);
    expect(mot('generate', 'run', '--segment', 'smell=1')).toMatchObject({
      status: expect.any(Number),
      stderr: expect.stringMatching(/NAME is a modality with a module of its own \(wave\)/),
    });
  }, 60_000);

  test('is refused once its module is another one, or lies in the data set', () => {
    const module = join(folder, 'series.mjs');
    const before = readFileSync(module, 'utf8');
    writeFileSync(module, `${before}\n`);
    expect(mot('data', 'inspect', 'series').stderr).toMatch(/series\.mjs is another module than the data set was/);
    writeFileSync(module, before);
    const inside = spawnSync(process.execPath, [cli, 'data', 'inspect', '.'], {
      encoding: 'utf8',
      cwd: join(folder, 'series'),
    });
    expect(inside.stderr).toMatch(/cannot read the module series\.mjs/);
    copyFileSync(module, join(folder, 'series/series.mjs'));
    const copied = spawnSync(process.execPath, [cli, 'data', 'inspect', '.'], {
      encoding: 'utf8',
      cwd: join(folder, 'series'),
    });
    expect(copied.stderr).toMatch(/is not run: it must lie below the working folder and outside the data set/);
  }, 60_000);
});

describe('a module that does not do what it must', () => {
  const attempt = (name: string, code: string) => {
    write(join(folder, `${name}.mjs`), code);
    write(
      join(folder, `${name}.yaml`),
      SERIES.replace('out: series', `out: ${name}`).replace('series.mjs', `${name}.mjs`),
    );
    return mot('prepare', `${name}.yaml`);
  };
  const tokenizer = (encode: string) =>
    `export default { create: () => ({}), load: () => ({ size: 4, encode: () => ${encode}, decode: () => [], rule: () => ({ begin: 0, end: 4, mayEnd: true }) }) };`;
  test.each([
    ['throws', 'throw new Error("at import");', /cannot import the module throws\.mjs: at import/],
    ['lacks', 'export default { create() {} };', /lacks\.mjs: its default export must have .*load is missing/],
    [
      'creates',
      'export default { create() { throw new Error("no bins"); }, load() {} };',
      /create for wave failed: no bins/,
    ],
    ['loads', 'export default { create() {}, load: () => ({ size: 3 }) };', /loads\.mjs: .*for wave has no encode\(\)/],
    ['sizeless', tokenizer('[]').replace('size: 4', 'size: 0'), /size of the tokenizer for wave must be .*got 0/],
  ])('%s', (name, code, message) => {
    expect(attempt(name, code)).toMatchObject({ status: 1, stderr: expect.stringMatching(message) });
  });
  test('an id out of range is a reason to skip', () => {
    attempt('ids', tokenizer('[1, 4]'));
    expect(skippedOf(join(folder, 'ids'))[0]!.reason).toBe('wave: its encoder gave the id 4, which is not in [0, 4)');
  });
  test.each([
    ['modalities: [text, wav]', /modalities\[1\]: must be one of text, image, speech, wave/],
    ['tokenizers: {own: {audio: {module: a.mjs}}}', /tokenizers\.own\.audio: the name has a meaning already/],
    ['tokenizers: {own: {wave: {}}}', /tokenizers\.own\.wave\.module is missing/],
  ])('%s', (yaml, message) => {
    const own = yaml.startsWith('modalities') ? '\ntokenizers: {own: {wave: {module: a.mjs}}}' : '';
    expect(() => options(`out: x\nsources: [{jsonl: a}]\n${yaml}${own}`)).toThrow(message);
  });
});

// A runtime of the same interface: a code is the brightness of a cell.
const FAKE_ONNX = `
const SIDE = 4, CODES = 8;
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export const InferenceSession = {
  async create(path) {
    const name = path.includes('encoder') ? 'pixels' : 'codes';
    return {
      inputNames: [name], outputNames: ['out'],
      async run({ [name]: { data, dims, type } }) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (name === 'pixels') {
          if (type !== 'float32' || dims.join() !== '1,3,16,16') throw new Error('wrong input ' + type + ' ' + dims);
          const codes = Array.from({ length: SIDE * SIDE }, (_, i) => {
            const at = (i >> 2) * 4 * 16 + (i % 4) * 4;
            return BigInt(Math.min(CODES - 1, Math.floor(CODES * data[at])));
          });
          return { out: { data: BigInt64Array.from(codes) } };
        }
        if (type !== 'int64' || dims.join() !== '1,4,4') throw new Error('wrong codes ' + type + ' ' + dims);
        const pixels = new Float32Array(3 * 256);
        for (let i = 0; i < 768; i++) {
          const y = (i % 256) >> 4, x = i % 16;
          pixels[i] = (Number(data[(y >> 2) * 4 + (x >> 2)]) + 0.5) / CODES;
        }
        return { out: { data: pixels } };
      },
    };
  },
};`;

test('pictures through an ONNX encoder and decoder', async () => {
  const runtime = pathToFileURL(write(join(folder, 'fake_onnx.mjs'), FAKE_ONNX)).href;
  for (const name of ['encoder.onnx', 'decoder.onnx']) write(join(folder, name), name);
  for (let i = 0; i < 20; i++) write(join(folder, `pictures/${i}.png`), png(i, 16, 16));
  const lines = Array.from({ length: 20 }, (_, i) =>
    JSON.stringify([{ text: `number ${i}` }, { image: `pictures/${i}.png` }]),
  );
  write(join(folder, 'pictures.jsonl'), lines.join('\n'));
  write(
    join(folder, 'onnx.yaml'),
    `out: onnx
sources: [{jsonl: pictures.jsonl}]
tokenizers:
  text: {vocabulary: 280}
  image:
    module: onnx_image.mjs
    size: 16
    options: {encoder: encoder.onnx, decoder: decoder.onnx, codes: 8, side: 4, runtime: "${runtime}"}
split: {validation: 0.1}
`,
  );
  const prepared = mot('prepare', 'onnx.yaml');
  expect([prepared.status, prepared.stderr]).toEqual([0, expect.stringContaining('train')]);
  const { vocabulary } = readManifest(join(folder, 'onnx'));
  expect(vocabulary.ranges['image']!.end - vocabulary.ranges['image']!.begin).toBe(8);
  expect(mot('data', 'inspect', 'onnx', '--samples', '1').stdout).toMatch(/number \d+ \[picture of 16x16 pixels\]/);
  write(join(folder, 'run.yaml'), RUN);
  // Long enough to learn that a picture follows.
  const training = ['data.dataset=onnx', 'out=onnx-run', 'train.steps=100', 'train.lr=0.01'];
  expect(mot('train', 'run.yaml', ...training)).toMatchObject({ status: 0 });
  const image = join(folder, 'pictures/1.png');
  const drawn = mot('generate', 'onnx-run', '--image', image, '--output', 'image', '--out', 'drawn.png');
  expect([drawn.status, drawn.stderr]).toEqual([0, '']);
  // Eight pixels of the file for one of the picture.
  expect(await sharp(join(folder, 'drawn.png')).metadata()).toMatchObject({ width: 128, height: 128 });
  const args = [
    '--text',
    'number 1',
    '--output',
    'document',
    '--out',
    'documents',
    '--count',
    '3',
    '--max-tokens',
    '60',
  ];
  const written = mot('generate', 'onnx-run', ...args);
  expect([written.status, written.stderr]).toEqual([0, '']);
  const jsonl = readFileSync(join(folder, 'documents/documents.jsonl'), 'utf8').trimEnd().split('\n');
  const documents = jsonl.map((line) => JSON.parse(line) as Record<string, string>[]);
  expect(documents).toHaveLength(3);
  for (const segments of documents) {
    expect(segments[0]!['text']).toMatch(/^number 1/);
    segments.slice(1).forEach((segment, i) => expect('text' in segment && 'text' in segments[i]!).toBe(false));
  }
  const pictures = documents.flat().flatMap(({ image }) => (image === undefined ? [] : [image]));
  expect(pictures.length).toBeGreaterThan(0);
  for (const name of pictures)
    expect(await sharp(join(folder, 'documents', name)).metadata()).toMatchObject({ width: 16, height: 16 });
  const page = readFileSync(join(folder, 'documents/document.html'), 'utf8');
  expect(page.split('src="data:image/png;base64,').length - 1).toBe(pictures.length);
  expect(page).not.toMatch(/(src|href)="(?!data:)/);
  expect(written.stdout.trim().split('\n')).toEqual([
    'documents/document.html',
    'documents/documents.jsonl',
    ...pictures.map((name) => `documents/${name}`),
  ]);
  write(join(folder, 'decoder.onnx'), 'another');
  expect(mot('generate', 'onnx-run', '--text', 'a', '--output', 'image').stderr).toMatch(
    /are not the models that the data set was prepared with/,
  );
}, 120_000);
