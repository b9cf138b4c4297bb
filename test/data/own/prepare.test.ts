import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openSplit } from '../../../lib/data/manifest.js';
import { readOwnOptions, type OwnOptions } from '../../../lib/data/own/options.js';
import { prepareOwn } from '../../../lib/data/own/prepare.js';
import type { PreparedDataset } from '../../../lib/data/prepare_emoji.js';
import { decodeDocument, loadTokenizers } from '../../../lib/modalities/registry.js';
import { brokenConfig, hashes, options, png, skippedOf, wav, write, writeBrokenFolder } from './fixtures.js';

const cli = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));
let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'mot-own-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('a folder with every kind of broken input', () => {
  let prepared: PreparedDataset;
  beforeAll(async () => {
    writeBrokenFolder(root);
    prepared = await prepareOwn(options(brokenConfig(root, join(root, 'a'))), { threads: 2 });
  }, 120_000);

  test('names each bad item once, with file, place and reason', () => {
    const skipped = skippedOf(prepared.folder);
    const at = ({ file, line, member, row }: (typeof skipped)[number]): string =>
      [file.slice(root.length + 6), line, member, row].filter((part) => part !== undefined).join(':');
    const reasons = Object.fromEntries(skipped.map((line) => [at(line), line.reason]));
    expect(Object.keys(reasons)).toHaveLength(skipped.length);
    const expected: Record<string, RegExp> = {
      'items.jsonl:17': /not valid JSON/,
      'items.jsonl:18': /there is no file pictures\/none\.png/,
      'items.jsonl:19': /\.\.\/outside\.png leads out of/,
      'items.jsonl:20': /link\.png leads out of/,
      'items.jsonl:21': /garbage\.png: could not decode the image/,
      'items.jsonl:22': /cut\.png: could not decode the image/,
      'items.jsonl:23': /huge\.png: .*pixel limit/,
      'items.jsonl:24': /pictures is not a file/,
      'items.jsonl:25': /nothing is fetched/,
      'items.jsonl:26': /data URI is not base64/,
      'items.jsonl:27': /lasts longer than 2 s/,
      'items.jsonl:28': /garbage\.wav: /,
      'items.jsonl:29': /not WAV, MP3, FLAC or Ogg/,
      'items.jsonl:30': /segment 2: text is null/,
      'items.jsonl:31': /it is empty/,
      'items.jsonl:32': /it is empty/,
      'items.jsonl:33': /none of text, image, audio/,
      'items.jsonl:34': /segment 1 is not an object/,
      'items.jsonl:35': /tokens, more than max_tokens \(256\)/,
      'items.jsonl:36': /not valid UTF-8/,
      'items.jsonl:37': /the line has more than 0\.2 MB/,
      'texts/latin.txt:3': /not valid UTF-8/,
      'texts/cut.txt.gz:1': /cannot be unpacked from here on: unexpected end of file/,
      'shards/good-0.tar:a/002': /no text, picture or sound, only \.cls/,
      'shards/good-0.tar:../003.txt': /leads out of the archive/,
      'shards/good-0.tar:a/004.txt': /link or device/,
      'shards/good-0.tar:a/005.txt': /300000 bytes/,
      'shards/good-0.tar:a/006': /not valid UTF-8/,
      'shards/good-0.tar:a/007': /could not decode the image/,
      'shards/cut.tar:d.txt': /cut short within it/,
      'shards/cut.tar.gz': /cannot be read/,
      'shards/garbage.tar': /broken at byte 0/,
      'tables/good.parquet:1': /column caption is null/,
      'tables/good.parquet:2': /column image is null/,
      'tables/good.parquet:3': /could not decode the image/,
      'tables/cut.parquet': /cannot be read/,
      'tables/other.parquet': /there is no column caption; it has label/,
    };
    expect(Object.keys(reasons).sort()).toEqual(Object.keys(expected).sort());
    for (const [place, reason] of Object.entries(expected))
      expect([place, reasons[place]]).toEqual([place, expect.stringMatching(reason)]);
  });

  test('holds the good items, whose tokens decode', async () => {
    const { folder, manifest } = prepared;
    expect(manifest.vocabulary.modalities).toEqual(['text', 'image', 'speech']);
    expect(manifest.sources!.map(({ items, skipped }) => [items, skipped])).toEqual([
      [16, 21],
      [6, 2],
      [5, 9],
      [3, 5],
    ]);
    const tokenizers = await loadTokenizers(folder, manifest);
    const texts: string[] = [];
    const kinds = new Set<string>();
    for (const split of ['train', 'validation'] as const) {
      const source = await openSplit(folder, manifest, split);
      for (let i = 0; i < source.documents; i++) {
        const segments = decodeDocument(source.read(i).token, tokenizers, manifest.vocabulary);
        kinds.add(segments.map((segment) => Object.keys(segment)[0]).join(' '));
        for (const segment of segments) if ('text' in segment) texts.push(segment.text);
      }
      source.close();
    }
    for (const text of [
      'picture 11',
      'a tone',
      'the last line, without an end',
      'a first caption',
      'from json',
      'still read',
      'packed',
      'And another.',
      'whole',
      'row 5',
    ])
      expect(texts).toContain(text);
    // Weight 2: in training twice, elsewhere once.
    expect(texts.filter((text) => text.startsWith('Another one')).length).toBeGreaterThan(0);
    expect(manifest.sources![1]!.documents).toBeGreaterThan(manifest.sources![1]!.items);
    expect(kinds).toContain('text image');
    expect(kinds).toContain('speech text');
  });

  test('is the same for one worker, is left as it is, and refuses another config', async () => {
    const again = await prepareOwn(options(brokenConfig(root, join(root, 'b'))), { threads: 1 });
    expect(again.cached).toBe(false);
    expect(hashes(again.folder)).toEqual(hashes(prepared.folder));
    expect((await prepareOwn(options(brokenConfig(root, join(root, 'b'))))).cached).toBe(true);
    const other = options(brokenConfig(root, join(root, 'b')).replace('weight: 2', 'weight: 3'));
    await expect(prepareOwn(other)).rejects.toMatchObject({ code: 'ERR_FILE_WRITE' });
  });

  test('refuses shards of other tokenizers', async () => {
    const { folder, manifest } = prepared;
    const text = { ...manifest.tokenizers['text']!, sha256: '0'.repeat(64) };
    const other = { ...manifest, tokenizers: { ...manifest.tokenizers, text } };
    await expect(openSplit(folder, other, 'train')).rejects.toThrow(/encoded with other tokenizers/);
  });

  test('trains and generates', () => {
    const run = join(root, 'run');
    const config = write(
      join(root, 'run.yaml'),
      `model: {d_model: 32, n_layers: 1, n_heads: 4, head_dim: 8, ffn_dim: 48}
data: {dataset: ${prepared.folder}}
train: {steps: 3, warmup_steps: 1, sequences: 4, seq_len: 256, threads: 1}
out: ${run}
`,
    );
    const train = spawnSync(process.execPath, [cli, 'train', config], { encoding: 'utf8' });
    expect([train.status, train.stderr]).toEqual([0, expect.stringContaining('step 3/3')]);
    const drawn = join(root, 'drawn.png');
    const image = join(root, 'data/pictures/1.png');
    for (const args of [
      ['--text', 'picture 1', '--output', 'image', '--out', drawn],
      ['--image', image, '--output', 'text', '--max-tokens', '3'],
    ]) {
      const { status, stderr } = spawnSync(process.execPath, [cli, 'generate', run, ...args], { encoding: 'utf8' });
      expect([status, stderr]).toEqual([0, '']);
    }
    expect(existsSync(drawn)).toBe(true);
  });
});

describe('what is wrong before any work', () => {
  const attempt = (yaml: string) => prepareOwn(options(`out: ${join(root, 'none')}\n${yaml}`), { threads: 1 });
  test('a source without files', async () => {
    await expect(attempt(`sources: [{jsonl: ${root}/none/*.jsonl}]`)).rejects.toThrow(/there is no file .*none/);
    expect(existsSync(join(root, 'none'))).toBe(false);
  });
  test('a source with nothing that can be used', async () => {
    const path = write(join(root, 'bad.jsonl'), 'not json\n');
    await expect(attempt(`sources: [{jsonl: ${path}}]`)).rejects.toThrow(
      /nothing in sources\[0\].*bad\.jsonl: it is not valid JSON/,
    );
  });
  test('a missing tokenizer and a foreign folder', async () => {
    const path = write(join(root, 'good.jsonl'), '{"text": "good"}\n');
    const missing = `sources: [{jsonl: ${path}}]\ntokenizers: {text: {file: ${root}/none.json}}`;
    await expect(attempt(missing)).rejects.toMatchObject({ code: 'ERR_FILE_OPEN' });
    write(join(root, 'foreign/notes.md'), 'mine');
    await expect(
      prepareOwn(options(`out: ${root}/foreign\nsources: [{jsonl: ${path}}]`), { threads: 1 }),
    ).rejects.toThrow(/did not make/);
  });
  test.each([
    ['sources: [{jsnl: a.jsonl}]', /must have one of the keys jsonl, text, webdataset, parquet/],
    ['sources: [{jsonl: a, wieght: 2}]', /own\.yaml:2: unknown key wieght; did you mean weight\?/],
    ['sources: [{parquet: a, columns: [{caption: b}]}]', /unknown key columns\[0\]\.caption/],
    ['sources: [{text: a}]\ntokenizers: {image: {size: 30}}', /patches of 4 pixels do not tile/],
    [
      'sources: [{text: a}]\ntokenizers: {image: {file: x.safetensors, fit: letterbox, size: 64}}',
      /own\.yaml:3: tokenizers\.image\.size cannot be set beside file/,
    ],
    ['sources: [{text: a}]\ntokenizers: {speech: {file: x, module: y}}', /speech\.module cannot be set beside file/],
    ['sources: [{text: a}]\nsplit: {validation: 0.8, heldout: 0.4}', /leave nothing to train on/],
  ])('%s', (yaml, message) => {
    expect(() => options(`out: x\n${yaml}`)).toThrow(message);
  });
});

test('the recipe shows the defaults', () => {
  const recipe = fileURLToPath(new URL('../../../../recipes/own-data.yaml', import.meta.url));
  expect(readOwnOptions(recipe)).toEqual(options('out: data/mine\nsources: [{jsonl: my-data/*.jsonl}]'));
});

describe('tokenizers of another data set', () => {
  const document = (i: number): string => {
    const data = (bytes: Uint8Array, type: string): string =>
      `data:${type};base64,${Buffer.from(bytes).toString('base64')}`;
    return JSON.stringify([
      { text: `number ${i}` },
      { image: data(png(i), 'image/png') },
      { audio: data(wav(i), 'audio/wav') },
    ]);
  };
  const yaml = (name: string, first: number, tokenizers: string): OwnOptions => {
    const lines = Array.from({ length: 30 }, (_, i) => `${document(first + i)}\n`);
    const path = write(join(root, `${name}.jsonl`), lines.join(''));
    return options(`out: ${root}/${name}
sources: [{jsonl: ${path}}]
split: {validation: 0}
tokenizers: {${tokenizers}}
`);
  };
  let first: PreparedDataset;
  beforeAll(async () => {
    const learnt = 'text: {vocabulary: 260}, image: {size: 8, codes: 8, stages: 1}, speech: {units: 6}';
    first = await prepareOwn(yaml('first', 0, learnt), { threads: 1 });
  });
  const files = (): string =>
    Object.entries(first.manifest.tokenizers)
      .map(([modality, { file }]) => `${modality}: {file: ${join(first.folder, file)}}`)
      .join(', ');

  test('are kept byte for byte, sizes included', async () => {
    const { folder, manifest } = await prepareOwn(yaml('second', 1000, files()), { threads: 1 });
    expect(manifest.tokenizers).toEqual(first.manifest.tokenizers);
    expect(manifest.vocabulary).toEqual(first.manifest.vocabulary);
    const source = await openSplit(folder, manifest, 'train');
    const segments = decodeDocument(source.read(0).token, await loadTokenizers(folder, manifest), manifest.vocabulary);
    source.close();
    expect(segments[1]).toMatchObject({ image: { width: 8, height: 8 } });
  });

  test('must be there, and of their modality', async () => {
    const attempt = (tokenizers: string) => prepareOwn(yaml('third', 0, tokenizers), { threads: 1 });
    await expect(attempt('image: {file: nowhere}')).rejects.toThrow(
      /tokenizers\.image\.file: there is no file nowhere/,
    );
    const speech = join(first.folder, first.manifest.tokenizers['speech']!.file);
    await expect(attempt(`image: {file: ${speech}}`)).rejects.toMatchObject({
      code: 'ERR_FILE_FORMAT',
      message: expect.stringMatching(/is not the image tokenizer of a data set.*name FOLDER\/image_tokenizer/),
    });
    expect(existsSync(join(root, 'third'))).toBe(false);
  });
});

describe('a killed preparation', () => {
  test('goes on from finished shards to the same files', async () => {
    const words = ['red', 'blue', 'green', 'round', 'square', 'small'];
    let text = '';
    for (let i = 0; text.length < 2_500_000; i++)
      text += `${JSON.stringify({ text: `${i} ${Array.from({ length: 60 }, (_, k) => words[(i * (k + 3)) % 6]).join(' ')}` })}\n${i % 500 === 7 ? 'broken\n' : ''}`;
    const file = write(join(root, 'many.jsonl'), text);
    const yaml = (out: string) =>
      `out: ${join(root, out)}\nsources: [{jsonl: ${file}}]\ntokenizers: {text: {vocabulary: 300}}\nshard_tokens: 60000\nsample: 50\n`;
    const whole = await prepareOwn(options(yaml('whole')), { threads: 2 });
    expect(whole.manifest.splits.train.shards.length).toBeGreaterThan(4);

    const config = write(join(root, 'killed.yaml'), yaml('killed'));
    const folder = join(root, 'killed');
    const child = spawn(process.execPath, [cli, 'prepare', config, '--threads', '1'], { stdio: 'ignore' });
    const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
    const state = join(folder, 'unfinished.json');
    const tasks = (): number =>
      existsSync(state) ? (JSON.parse(readFileSync(state, 'utf8')) as { tasks: number }).tasks : 0;
    while (tasks() < 2 && child.exitCode === null) await sleep(2);
    child.kill('SIGKILL');
    expect(await ended).toBe('SIGKILL');
    expect(existsSync(join(folder, 'manifest.json'))).toBe(false);
    // Written after the last state, as if the kill had come in the middle of it.
    writeFileSync(join(folder, 'skipped.jsonl'), `${readFileSync(join(folder, 'skipped.jsonl'), 'utf8')}{"half`);

    const { status, stderr } = spawnSync(process.execPath, [cli, 'prepare', config, '--threads', '2'], {
      encoding: 'utf8',
    });
    expect([status, stderr]).toEqual([
      0,
      expect.stringMatching(/going on in .*killed: \d{2,} documents are there already/),
    ]);
    expect(hashes(folder)).toEqual(hashes(whole.folder));
    const lines = skippedOf(folder).map(({ line }) => line!);
    expect(lines).toEqual([...new Set(lines)].sort((a, b) => a - b));
    for (const line of lines) expect(text.split('\n')[line - 1]).toBe('broken');
    expect(lines.length).toBeGreaterThan(5);
  }, 120_000);
});
