import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { parseConfigText } from '../../../lib/config/file.js';
import { parseOwnOptions, type OwnOptions } from '../../../lib/data/own/options.js';
import type { SkippedLine } from '../../../lib/data/own/skipped.js';
import { encodePng } from '../../../lib/media/png.js';
import { encodeWav } from '../../../lib/media/wav.js';

/** Options from YAML, as the command line reads them. */
export function options(yaml: string): OwnOptions {
  return parseOwnOptions(parseConfigText(yaml, 'own.yaml'));
}

/** A PNG of two colours that follow from `i`. */
export function png(i: number, width = 16, height = 12): Uint8Array {
  const data = new Uint8Array(width * height * 3);
  for (let at = 0; at < data.length; at++)
    data[at] = (at % 3 === i % 3 ? 40 + 17 * i : 11 * i + (at > data.length / 2 ? 90 : 0)) % 256;
  return encodePng({ width, height, data });
}

/** A WAV file of a tone. */
export function wav(i: number, seconds = 0.3): Uint8Array {
  const samples = Float32Array.from({ length: 16000 * seconds }, (_, t) => 0.3 * Math.sin(t * 0.02 * (1 + (i % 7))));
  return encodeWav({ sampleRate: 16000, samples });
}

export function write(path: string, content: string | Uint8Array): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

interface Entry {
  name: string;
  content?: string | Uint8Array;
  type?: string;
}

/** A ustar archive. */
export function tar(entries: readonly Entry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const { name, content = '', type = '0' } of entries) {
    const bytes = Buffer.from(content);
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write('0000644\0', 100);
    header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write('        ', 148);
    header.write(type, 156);
    header.write('ustar\x0000', 257);
    header.write(
      `${header
        .reduce((sum, byte) => sum + byte, 0)
        .toString(8)
        .padStart(6, '0')}\0 `,
      148,
    );
    blocks.push(header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

const IMAGE_SCHEMA = [
  { name: 'root', num_children: 2 },
  { name: 'caption', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
  { name: 'image', num_children: 2, repetition_type: 'OPTIONAL' },
  { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
  { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
] as const;

/** A Parquet file with a caption and an image as Hugging Face stores them. */
export function parquet(
  rows: { caption: string | null; image: { bytes: Uint8Array | null; path: string } | null }[],
): Buffer {
  return Buffer.from(
    parquetWriteBuffer({
      schema: IMAGE_SCHEMA.map((element) => ({ ...element })),
      columnData: [
        { name: 'caption', data: rows.map(({ caption }) => caption) },
        { name: 'image', data: rows.map(({ image }) => image) },
      ],
      rowGroupSize: 4,
    }),
  );
}

export function skippedOf(folder: string): SkippedLine[] {
  const text = readFileSync(join(folder, 'skipped.jsonl'), 'utf8');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as SkippedLine);
}

/** Hash of every file of a folder. */
export function hashes(folder: string): Record<string, string> {
  const hash = (file: string): string =>
    createHash('sha256')
      .update(readFileSync(join(folder, file)))
      .digest('hex');
  return Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((file) => [file, hash(file)]),
  );
}

/** A folder with good items of every kind, and with every kind of broken ones. */
export function writeBrokenFolder(root: string): void {
  for (let i = 0; i < 12; i++) write(join(root, 'data/pictures', `${i}.png`), png(i));
  write(join(root, 'data/sounds/good.wav'), wav(1));
  write(join(root, 'outside.png'), png(3));
  symlinkSync('../../outside.png', join(root, 'data/pictures/link.png'));
  write(join(root, 'data/pictures/garbage.png'), 'this is no picture');
  write(join(root, 'data/pictures/cut.png'), png(5, 60, 60).subarray(0, 90));
  write(join(root, 'data/pictures/huge.png'), png(6, 150, 150));
  write(join(root, 'data/sounds/long.wav'), wav(2, 3));
  write(join(root, 'data/sounds/garbage.wav'), 'RIFFthis is no sound');
  write(join(root, 'data/sounds/text.wav'), 'plain text');
  write(
    join(root, 'data/drawing.svg'),
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"><image href="pictures/1.png" width="16" height="16"/></svg>',
  );
  const good = Array.from({ length: 12 }, (_, i) =>
    JSON.stringify([{ text: `picture ${i}` }, { image: `pictures/${i}.png` }]),
  );
  const broken: (string | Buffer)[] = [
    '{"text": "unfinished',
    '{"image": "pictures/none.png"}',
    '{"image": "../outside.png"}',
    '{"image": "pictures/link.png"}',
    '{"image": "pictures/garbage.png"}',
    '{"image": "pictures/cut.png"}',
    '{"image": "pictures/huge.png"}',
    '{"image": "pictures"}',
    '{"image": "http://127.0.0.1:9/a.png"}',
    '{"image": "data:image/png,abc"}',
    '{"audio": "sounds/long.wav"}',
    '{"audio": "sounds/garbage.wav"}',
    '{"audio": "sounds/text.wav"}',
    '[{"text": "a"}, {"text": null}]',
    '{"text": ""}',
    '[]',
    '{"label": 3}',
    '[7]',
    `[{"text": ${JSON.stringify('long '.repeat(300))}}, {"image": "pictures/1.png"}]`,
    Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]),
    `{"text": ${JSON.stringify('x'.repeat(300_000))}}`,
  ];
  const lines = [
    ...good,
    `{"image": "data:image/png;base64,${Buffer.from(png(9)).toString('base64')}"}`,
    '{"segments": [{"audio": "sounds/good.wav"}, {"text": "a tone"}], "key": "speaker"}',
    '{"image": "drawing.svg"}',
    '',
    ...broken,
    '{"text": "the last line, without an end"}',
  ];
  write(
    join(root, 'data/items.jsonl'),
    Buffer.concat(lines.flatMap((line, i) => [Buffer.from(i > 0 ? '\n' : ''), Buffer.from(line)])),
  );
  write(join(root, 'data/texts/good.txt'), 'One paragraph.\n\n  \nAnother one\nof two lines.\n');
  write(
    join(root, 'data/texts/latin.txt'),
    Buffer.concat([Buffer.from('fine\n\ncaf'), Buffer.of(0xe9), Buffer.from(' noir\n\nfine again')]),
  );
  write(join(root, 'data/texts/empty.txt'), '');
  write(join(root, 'data/texts/packed.txt.gz'), gzipSync('A packed one.\n\nAnd another.'));
  write(join(root, 'data/texts/cut.txt.gz'), gzipSync('One that is cut.').subarray(0, 20));
  const members: Entry[] = [
    { name: 'a/000.txt', content: 'a first caption' },
    { name: 'a/000.png', content: png(1) },
    { name: 'a/001.json', content: '{"caption": "from json"}' },
    { name: 'a/001.wav', content: wav(3) },
    { name: 'a/002.cls', content: '7' },
    { name: '../003.txt', content: 'leads out' },
    { name: 'a/004.txt', type: '2' },
    { name: 'a/005.txt', content: 'x'.repeat(300_000) },
    { name: 'a/006.txt', content: Buffer.of(0xff, 0xff) },
    { name: 'a/007.png', content: 'no picture' },
    { name: 'a/008.txt', content: 'still read' },
  ];
  write(join(root, 'data/shards/good-0.tar'), tar(members));
  write(join(root, 'data/shards/good-1.tar.gz'), gzipSync(tar([{ name: 'b.txt', content: 'packed' }])));
  write(
    join(root, 'data/shards/cut.tar'),
    tar([
      { name: 'c.txt', content: 'whole' },
      { name: 'd.txt', content: 'y'.repeat(2000) },
    ]).subarray(0, 2000),
  );
  write(join(root, 'data/shards/cut.tar.gz'), gzipSync(tar([{ name: 'e.txt', content: 'z' }])).subarray(0, 60));
  write(join(root, 'data/shards/garbage.tar'), 'no archive at all '.repeat(50));
  const rows = Array.from({ length: 6 }, (_, i) => ({
    caption: i === 1 ? null : `row ${i}`,
    image: i === 2 ? null : { bytes: i === 3 ? Buffer.from('no picture') : png(i), path: `${i}.png` },
  }));
  write(join(root, 'data/tables/good.parquet'), parquet(rows));
  write(join(root, 'data/tables/cut.parquet'), parquet(rows).subarray(0, 500));
  write(
    join(root, 'data/tables/other.parquet'),
    Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'label', data: ['x'], type: 'STRING' }] })),
  );
}

/** The config for that folder. */
export function brokenConfig(root: string, out: string): string {
  return `
out: ${out}
sources:
  - jsonl: ${root}/data/items.jsonl
  - text: ${root}/data/texts/*.txt*
    weight: 2
  - webdataset: ${root}/data/shards/*.tar*
    order: random
  - parquet: ${root}/data/tables/*.parquet
    columns: [{ text: caption }, { image: image }]
tokenizers:
  text: { vocabulary: 300 }
  image: { size: 16, codes: 16, stages: 1 }
  speech: { units: 8 }
split: { validation: 0.1 }
max_tokens: 256
limits: { image_pixels: 10000, audio_seconds: 2, file_mb: 0.2 }
`;
}
