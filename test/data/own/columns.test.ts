import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspectDataset } from '../../../lib/data/inspect.js';
import { prepareOwn } from '../../../lib/data/own/prepare.js';
import { options, png, skippedOf, wav, write } from './fixtures.js';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'mot-columns-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('JSON lines whose keys have names of their own are read by columns, in their order', async () => {
  write(join(root, 'pictures/a.png'), png(1));
  write(join(root, 'pictures/a.wav'), wav(1));
  const good = { file_name: 'a.png', spoken: 'a.wav', caption: 'red square', text: 'not read' };
  const lines = [
    ...Array.from({ length: 4 }, (_, i) => ({ ...good, id: i })),
    { ...good, caption: undefined },
    { ...good, caption: null },
    { ...good, file_name: 'none.png' },
    { ...good, file_name: 'data:image/png,raw' },
    ['a list'],
  ];
  const file = write(join(root, 'pictures/metadata.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n'));
  const folder = join(root, 'set');
  const yaml = `out: ${folder}
sources: [{jsonl: ${file}, columns: [{image: file_name}, {text: caption}, {audio: spoken}]}]
tokenizers: {text: {vocabulary: 270}, image: {size: 8, codes: 4, stages: 1}, speech: {units: 4}}
split: {validation: 0}`;
  await prepareOwn(options(yaml), { threads: 1 });
  expect(skippedOf(folder).map(({ line, reason }) => [line, reason])).toEqual([
    [5, 'it has no caption; its keys: file_name, spoken, text'],
    [6, 'caption is null, not a text'],
    [7, expect.stringMatching(/there is no file none\.png/)],
    [8, 'its data URI is not base64'],
    [9, 'it is not an object with file_name'],
  ]);
  const [train] = (await inspectDataset(folder, { samples: 9 })).splits;
  expect(train!.samples).toHaveLength(4);
  for (const { segments } of train!.samples) {
    expect(segments.map((segment) => Object.keys(segment)[0])).toEqual(['image', 'text', 'speech']);
    expect(segments[1]).toMatchObject({ text: 'red square' });
  }
});
