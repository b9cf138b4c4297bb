import { afterAll, beforeAll, expect, test } from '@jest/globals';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import { prepareOwn } from '../../lib/data/own/prepare.js';
import { writeReport } from '../../lib/report/report.js';
import { MODEL_FILE, OPTIMIZER_FILE } from '../../lib/train/checkpoint.js';
import { isStep, readMetrics } from '../../lib/train/metrics.js';
import { runTraining, type RunOptions } from '../../lib/train/run.js';
import { readSamples } from '../../lib/train/samples.js';
import { LivePage } from '../../lib/watch/server.js';
import { options, png, wav, write } from '../data/own/fixtures.js';

const STEPS = 12;
const EVERY = 'train.samples.every=5';
let root: string;
let config: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'mot-samples-'));
  const lines = Array.from({ length: 24 }, (_, i) => {
    write(join(root, `${i}.png`), png(i));
    write(join(root, `${i}.wav`), wav(i));
    return JSON.stringify([{ text: `number ${i}` }, { image: `${i}.png` }, { audio: `${i}.wav` }]);
  });
  const file = write(join(root, 'a.jsonl'), [...lines, JSON.stringify({ text: 'only words' })].join('\n'));
  const data = join(root, 'data');
  const yaml = `out: ${data}
sources: [{jsonl: ${file}}]
tokenizers: {text: {vocabulary: 300}, image: {size: 16, codes: 8, stages: 1}, speech: {units: 8}}
split: {validation: 0.3}`;
  await prepareOwn(options(yaml), { threads: 1 });
  config = write(
    join(root, 'run.yaml'),
    `model: {d_model: 32, n_layers: 1, n_heads: 2, ffn_dim: 48}
data: {dataset: ${data}}
train: {steps: ${STEPS}, sequences: 2, seq_len: 64, warmup_steps: 2, checkpoint_every: 10, validation_documents: 4, dtype: f32}
`,
  );
  await train('plain');
  await train('sampled', [EVERY]);
}, 120_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

const out = (name: string): string => join(root, name);
async function train(name: string, overrides: string[] = [], given: RunOptions = {}): Promise<void> {
  await runTraining(readRunConfig(config, [`out=${out(name)}`, ...overrides]), given);
}
const finalFiles = (name: string): Buffer[] =>
  [MODEL_FILE, OPTIMIZER_FILE].map((file) => readFileSync(join(out(name), 'checkpoints', `step-0000${STEPS}`, file)));
const folder = (name: string, step: number): string =>
  join(out(name), 'samples', `step-${String(step).padStart(6, '0')}`);
/** Every file of a step's samples, by name. */
const files = (name: string, step: number): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder(name, step)).map((file) => [file, readFileSync(join(folder(name, step), file), 'latin1')]),
  );

test('with averaged weights it is these that are sampled', async () => {
  await train('averaged', [EVERY, 'train.ema_decay=0.9']);
  const generated = (name: string): string[] =>
    Object.entries(files(name, STEPS)).flatMap(([file, bytes]) => (file.includes('generated') ? [bytes] : []));
  expect(generated('averaged')).toHaveLength(generated('sampled').length);
  expect(generated('averaged')).not.toEqual(generated('sampled'));
});

test('a step is sampled every so often and at the end, two samples of each modality', () => {
  const events = readMetrics(join(out('sampled'), 'metrics.jsonl')).filter(
    (line) => !isStep(line) && line.event === 'samples',
  );
  expect(events).toEqual(
    [5, 10, 12].map((step) => ({ event: 'samples', step, folder: `samples/step-${String(step).padStart(6, '0')}` })),
  );
  const list = readSamples(out('sampled'), 12)!;
  expect(list.map(({ generated }) => generated.modality).sort()).toEqual(
    ['image', 'speech', 'text'].flatMap((modality) => [modality, modality]).slice(0, list.length),
  );
  for (const { prompt, generated, truth } of list) {
    expect(truth.modality).toBe(generated.modality);
    for (const piece of [...prompt, generated, truth]) {
      if (!('file' in piece)) continue;
      const bytes = readFileSync(join(folder('sampled', 12), piece.file));
      expect(bytes.subarray(0, 4).toString('latin1')).toBe(piece.modality === 'image' ? '\x89PNG' : 'RIFF');
    }
  }
  const picture = list.find(({ generated }) => generated.modality === 'image')!;
  expect(picture.prompt).toEqual([{ modality: 'text', text: expect.stringMatching(/^number \d+$/) }]);
  const sound = list.find(({ generated }) => generated.modality === 'speech')!;
  expect(sound.prompt.map(({ modality }) => modality)).toEqual(['text', 'image']);
});

test('the weights are the same bits as without samples', () => {
  expect(existsSync(join(out('plain'), 'samples'))).toBe(false);
  finalFiles('plain').forEach((file, i) => expect(file.equals(finalFiles('sampled')[i]!)).toBe(true));
});

test('the samples are the same with another number of threads, and after a stop and a resume', async () => {
  const stop = new AbortController();
  const onMetrics: RunOptions['onMetrics'] = (line) => void (line.step === 8 && stop.abort());
  await train('again', [EVERY, 'train.threads=1'], { stop: stop.signal, onMetrics });
  expect(existsSync(folder('again', 10))).toBe(false);
  mkdirSync(join(out('again'), 'samples', '.step-000010.tmp-1'));
  await train('again', [EVERY, 'train.threads=2'], { resume: true });
  for (const step of [5, 10, 12]) expect(files('again', step)).toEqual(files('sampled', step));
  expect(readdirSync(join(out('again'), 'samples'))).toEqual(['step-000005', 'step-000010', 'step-000012']);
});

test('a model that looks ahead has none, and that is said', async () => {
  const said: string[] = [];
  const progress = {
    start() {},
    step() {},
    validation() {},
    stop() {},
    say: (sentence: string) => void said.push(sentence),
  };
  await train('experts', [EVERY, 'train.steps=5', 'model.untied=false', 'model.experts.shared=2'], { progress });
  expect(said.join('\n')).toMatch(/no samples while it trains: with expert choice/);
  expect(existsSync(join(out('experts'), 'samples'))).toBe(false);
});

test('the report and the live page show them, and the page serves nothing else', async () => {
  expect(readFileSync(await writeReport(out('sampled')), 'utf8')).toMatch(
    /While it trained.*given: text<\/b> number \d+.*data:image\/png.*step 5.*step 10.*step 12.*true/s,
  );
  const page = await LivePage.open(out('sampled'), { port: 0 });
  try {
    const get = (path: string): Promise<Response> => fetch(new URL(path, page.url));
    const events = (await get('events')).body!.getReader();
    let text = '';
    while (!text.includes('data: ')) text += Buffer.from((await events.read()).value!).toString();
    await events.cancel();
    expect(text).toContain('"samples":{"step":12,"folder":"samples/step-000012","list":[{"prompt":');
    const picture = await get('samples/step-000012/image-0-generated.png');
    expect([picture.status, picture.headers.get('content-type')]).toEqual([200, 'image/png']);
    expect(Buffer.from(await picture.arrayBuffer())).toEqual(
      readFileSync(join(folder('sampled', 12), 'image-0-generated.png')),
    );
    expect((await get('samples/step-000012/speech-0-generated.wav')).headers.get('content-type')).toBe('audio/wav');
    writeFileSync(join(root, 'secret.png'), 'secret');
    symlinkSync(join(root, 'secret.png'), join(folder('sampled', 12), 'link.png'));
    symlinkSync(root, join(out('sampled'), 'samples', 'step-000099'));
    for (const path of [
      'samples/step-000012/samples.json',
      'samples/step-000012/link.png',
      'samples/step-000099/secret.png',
      'samples/step-000012/..%2f..%2fconfig.yaml',
      'samples/step-000013/image-0-generated.png',
    ])
      expect([path, (await get(path)).status]).toEqual([path, 404]);
  } finally {
    await page.close();
  }
});
