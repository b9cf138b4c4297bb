import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspectDataset } from '../../../lib/data/inspect.js';
import { prepareOwn } from '../../../lib/data/own/prepare.js';
import { loadTokenizers } from '../../../lib/modalities/registry.js';
import { HubTextTokenizer } from '../../../lib/modalities/text/hub_tokenizer.js';
import { renderDatasetPage } from '../../../lib/report/dataset_page.js';
import { options, png, wav, write } from './fixtures.js';

const cli = fileURLToPath(new URL('../../../lib/cli/main.js', import.meta.url));
let root: string;
let folder: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'mot-inspect-'));
  folder = join(root, 'set');
  const lines = Array.from({ length: 20 }, (_, i) => {
    write(join(root, `${i}.png`), png(i));
    write(join(root, `${i}.wav`), wav(i));
    return JSON.stringify([{ text: `<|user|> <b>${i}</b>` }, { image: `${i}.png` }, { audio: `${i}.wav` }]);
  });
  const file = write(join(root, 'a.jsonl'), lines.join('\n'));
  const yaml = `out: ${folder}
sources: [{jsonl: ${file}}]
tokenizers: {text: {vocabulary: 300, special_tokens: ['<|user|>']}, image: {size: 16, codes: 8, stages: 1}, speech: {units: 8}}
split: {validation: 0.3}`;
  await prepareOwn(options(yaml), { threads: 1 });
}, 60_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('counts documents, lengths and shares, and decodes samples', async () => {
  const { manifest, splits } = await inspectDataset(folder, { samples: 3 });
  expect(splits.map(({ split }) => split)).toEqual(['train', 'validation']);
  const [train] = splits;
  expect(train!.documents + splits[1]!.documents).toBe(20);
  expect(train!.tokens).toBe(manifest.splits.train.tokens);
  expect(train!.lengths.mean).toBeCloseTo(train!.tokens / train!.documents);
  expect(train!.lengths.longest).toBeLessThanOrEqual(manifest.longestDocument);
  const shares = Object.values(train!.modalities).map(({ share }) => share);
  expect(shares.reduce((sum, share) => sum + share)).toBeCloseTo(1);
  expect(train!.modalities['image']!.share).toBeCloseTo((16 * train!.documents) / train!.tokens);
  expect(train!.modalities['image']!.spans).toBe(1);
  expect(train!.samples).toHaveLength(3);
  expect(train!.samples[0]!.segments.map((segment) => Object.keys(segment)[0])).toEqual(['text', 'image', 'speech']);
});

test('the documents asked for, as metrics of a run name them', async () => {
  const all = await inspectDataset(folder, { samples: 1000 });
  const { splits } = await inspectDataset(folder, { documents: [5, 0, 7] });
  expect(splits.map(({ split }) => split)).toEqual(['train']);
  expect(splits[0]!.samples).toEqual([5, 0, 7].map((index) => all.splits[0]!.samples[index]));
  const held = await inspectDataset(folder, { documents: [1], split: 'validation' });
  expect(held.splits.map(({ samples }) => samples)).toEqual([[all.splits[1]!.samples[1]]]);
  const shard = join(folder, all.manifest.splits.validation.shards[0]!.file);
  expect((await inspectDataset(shard, { documents: [1] })).splits[0]!.samples).toEqual(held.splits[0]!.samples);
  const wrong = inspectDataset(folder, { documents: [0, 400] });
  await expect(wrong).rejects.toMatchObject({
    code: 'ERR_ARGUMENT',
    message: expect.stringMatching(/no document 400 in the split train .*has 0 to 1\d\./),
  });
});

test('special tokens are one id, and survive', async () => {
  const { manifest, splits } = await inspectDataset(folder);
  const text = (await loadTokenizers(folder, manifest))['text'] as HubTextTokenizer;
  expect(text).toBeInstanceOf(HubTextTokenizer);
  expect(Array.from(text.encode('<|user|>'))).toEqual([text.size - 1]);
  expect(splits[0]!.samples[0]!.segments[0]).toEqual({ text: expect.stringMatching(/^<\|user\|> <b>\d+<\/b>$/) });
});

test('the page holds pictures and sounds, and nothing of a document is markup', async () => {
  const { manifest, splits } = await inspectDataset(folder, { samples: 2 });
  const page = renderDatasetPage(folder, manifest, splits);
  expect(page.match(/<img src="data:image\/png;base64,/g)).toHaveLength(4);
  expect(page.match(/<audio controls/g)).toHaveLength(4);
  expect(page).not.toContain('<b>0</b>');
  expect(page).not.toMatch(/(?:src|href)="(?!data:)/);
});

test('the command tells it of a shard, and writes the page', () => {
  const page = join(root, 'page.html');
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [cli, 'data', 'inspect', ...args], { encoding: 'utf8' });
  const { status, stdout } = run(join(folder, 'train-00000.safetensors'), '--html', page, '--samples', '1');
  expect(status).toBe(0);
  expect(stdout).toMatch(/^train +\d+ +\d+/m);
  expect(stdout).toMatch(/picture of 16x16 pixels/);
  expect(readFileSync(page, 'utf8')).toContain('train-00000.safetensors');
  expect(run(join(root, 'a.jsonl')).status).toBe(1);
});
