import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readRunConfig } from '../../lib/config/run_config.js';
import { readManifest } from '../../lib/data/manifest.js';
import { SafetensorsFile, writeSafetensors } from '../../lib/io/safetensors.js';
import { Model } from '../../lib/model/model.js';
import { EMA_FILE, MODEL_FILE } from '../../lib/train/checkpoint.js';
import { StartWeights, vocabularyMetadata } from '../../lib/train/from.js';
import { isStep, type StepMetrics } from '../../lib/train/metrics.js';
import { silent } from '../../lib/train/progress.js';
import { modelForDataset, modelOptions } from '../../lib/train/run.js';
import { writeTinyDataset } from './tiny_dataset.js';
import { TinyJob } from './tiny_job.js';

let job: TinyJob;
/** A data set without speech. */
let silentData: string;

beforeAll(async () => {
  job = await TinyJob.create(6);
  silentData = join(job.folder, 'silent');
  await writeTinyDataset(silentData, 60, undefined, [
    ['text', 20],
    ['image', 14],
  ]);
  await job.train('dense', ['model.untied=false', 'train.ema_decay=0.9']);
  await job.train('two', [`data.dataset=${silentData}`]);
}, 60_000);
afterAll(() => job.remove());

const firstStep = (run: string): StepMetrics => job.lines(run).find(isStep)!;

/** A model as a run with these settings begins. */
async function begin(...overrides: string[]): Promise<Model> {
  const config = readRunConfig(job.config, overrides);
  const manifest = readManifest(config.data.dataset);
  const modelConfig = modelForDataset(config, manifest);
  using start = await StartWeights.open(config.train.from!, modelConfig, manifest);
  const model = await Model.create(modelConfig, { ...modelOptions(config), ema: true });
  await start.load(model, { ema: true });
  return model;
}

async function fileOf(run: string, name = MODEL_FILE): Promise<SafetensorsFile> {
  return SafetensorsFile.open(join(job.checkpoint(run), name));
}

test('a run begins with the weights of another, the averaged ones unless told otherwise', async () => {
  const from = `train.from.path=${job.out('dense')}`;
  for (const [overrides, name] of [
    [[], EMA_FILE],
    [['train.from.weights=raw'], MODEL_FILE],
  ] as const) {
    await using model = await begin('model.untied=false', from, ...overrides);
    using file = await fileOf('dense', name);
    for (const { name: tensor } of model.tensors())
      for (const kind of ['weight', 'ema'] as const)
        expect(await model.readTensor(kind, tensor)).toEqual(file.read(tensor));
  }
  // A file, by itself.
  await using model = await begin('model.untied=false', `train.from=${join(job.checkpoint('dense'), MODEL_FILE)}`);
  using file = await fileOf('dense');
  expect(await model.readTensor('weight', 'norm.shared.weight')).toEqual(file.read('norm.shared.weight'));
});

test('a dense model, copied into every tower, has the same first loss bit for bit', async () => {
  const from = [`train.from=${job.out('dense')}`, 'train.steps=2', 'train.warmup_steps=1'];
  const said: string[] = [];
  const progress = { ...silent, say: (sentence: string) => void said.push(sentence) };
  await job.train('dense-again', ['model.untied=false', ...from]);
  await job.train('mot', from, { progress });
  expect(firstStep('mot').loss).toBe(firstStep('dense-again').loss);
  expect(firstStep('mot').losses).toEqual(firstStep('dense-again').losses);
  expect(firstStep('mot').loss).toBeLessThan(firstStep('dense').loss!);
  expect(said.join('\n')).toMatch(
    /begins with .*ema\.safetensors; .*tower text is its shared; tower image is its shared/,
  );
  // From the second step on the towers differ.
  using file = await fileOf('mot', '../step-000002/model.safetensors');
  expect(file.read('layers.0.text.mlp.up_proj.weight')).not.toEqual(file.read('layers.0.image.mlp.up_proj.weight'));
});

test('ids of another tokenizer are not taken for its own, and that is said', async () => {
  const config = readRunConfig(job.config, [`data.dataset=${silentData}`]);
  const manifest = readManifest(silentData);
  const modelConfig = modelForDataset(config, manifest);
  const tokenizers = (image: string) => ({
    text: { file: 'tokenizer.json', sha256: 'same' },
    image: { file: 'image.safetensors', sha256: image },
  });
  const path = join(job.folder, 'tokenized.safetensors');
  await using saved = await Model.create(modelConfig, { tokens: 64, seed: 9 });
  await saved.save(path, ['weight'], vocabularyMetadata({ ...manifest, tokenizers: tokenizers('first') }));
  const { text, image } = manifest.vocabulary.ranges;
  for (const hash of ['first', 'second']) {
    const data = { ...manifest, tokenizers: tokenizers(hash) };
    using start = await StartWeights.open({ path, towers: {} }, modelConfig, data);
    await using model = await Model.create(modelConfig, modelOptions(config));
    const drawn = await model.readTensor('weight', 'lm_head.weight');
    await start.load(model, { ema: false });
    const [now, old] = [
      await model.readTensor('weight', 'lm_head.weight'),
      await saved.readTensor('weight', 'lm_head.weight'),
    ];
    const of = (values: Float32Array, { begin, end }: { begin: number; end: number }): Float32Array =>
      values.subarray(begin * modelConfig.d_model, end * modelConfig.d_model);
    expect(of(now, text!)).toEqual(of(old, text!));
    expect(of(now, image!)).toEqual(of(hash === 'first' ? old : drawn, image!));
    expect(/the ids of image are drawn anew/.test(start.sentence)).toBe(hash === 'second');
  }
});

describe('a new modality', () => {
  const from = (): string => `train.from.path=${job.out('two')}`;

  test('its tower is copied, ids keep their meaning, and the old modalities compute what they did', async () => {
    await using model = await begin(from(), 'train.from.towers={speech: text}');
    await using fresh = await Model.create(model.config, modelOptions(readRunConfig(job.config)));
    using file = await fileOf('two');
    for (const { name } of model.tensors().filter(({ name }) => /^(layers|norm)\./.test(name)))
      expect(await model.readTensor('weight', name)).toEqual(file.read(name.replace('.speech.', '.text.')));
    const before = readManifest(silentData).vocabulary;
    const { vocabulary } = readManifest(join(job.folder, 'data'));
    const row = (values: Float32Array, id: number): Float32Array => values.subarray(id * 32, (id + 1) * 32);
    for (const name of ['embed_tokens.weight', 'lm_head.weight']) {
      const [now, drawn] = [await model.readTensor('weight', name), await fresh.readTensor('weight', name)];
      const old = file.read(name) as Float32Array;
      for (const special of Object.keys(vocabulary.special)) {
        const id = vocabulary.special[special]!;
        const expected = before.special[special] === undefined ? row(drawn, id) : row(old, before.special[special]);
        expect(row(now, id)).toEqual(expected);
      }
      for (const [modality, { begin: first, end }] of Object.entries(vocabulary.ranges)) {
        const range = before.ranges[modality];
        for (let id = first; id < end; id++) {
          const was = range ? range.begin + id - first : Infinity;
          expect(row(now, id)).toEqual(was < (range?.end ?? 0) ? row(old, was) : row(drawn, id));
        }
      }
    }
    await using two = await begin(from(), `data.dataset=${silentData}`);
    const hidden = (of: Model, { ranges }: typeof vocabulary): Promise<Float32Array> => {
      const [text, image] = [ranges['text']!.begin, ranges['image']!.begin];
      const token = Int32Array.of(text, text + 5, image + 2, image + 13, text + 19);
      const position = Int32Array.from(token, (_, i) => i);
      const batch = {
        token,
        modality: Int32Array.of(0, 0, 1, 1, 0),
        position,
        kvStart: new Int32Array(5),
        kvEnd: position.map((i) => i + 1),
      };
      return of.forward(batch, position, 'hidden');
    };
    expect(await hidden(model, vocabulary)).toEqual(await hidden(two, before));
  });

  test('or drawn anew', async () => {
    await using model = await begin(from(), 'train.from.towers={speech: null}');
    await using fresh = await Model.create(model.config, modelOptions(readRunConfig(job.config)));
    using file = await fileOf('two');
    const name = (tower: string): string => `layers.1.${tower}.self_attn.o_proj.weight`;
    expect(await model.readTensor('weight', name('speech'))).toEqual(await fresh.readTensor('weight', name('speech')));
    expect(await model.readTensor('weight', name('image'))).toEqual(file.read(name('image')));
  });

  test('a run with it trains, and goes on when its source is gone', async () => {
    const settings = [`train.from.path=${job.out('gone')}`, 'train.from.towers={speech: image}'];
    await job.train('gone', [`data.dataset=${silentData}`, 'train.steps=1', 'train.warmup_steps=1']);
    await job.train('three', settings);
    const stop = new AbortController();
    const progress = { ...silent, step: () => stop.abort() };
    await job.train('three-resumed', settings, { progress, stop: stop.signal });
    rmSync(job.out('gone'), { recursive: true });
    await job.train('three-resumed', settings, { resume: true });
    job.finalFiles('three').forEach((file, i) => expect(file.equals(job.finalFiles('three-resumed')[i]!)).toBe(true));
  });
});

test.each<[string[], string, RegExp]>([
  [['train.from=nowhere'], 'ERR_FILE_OPEN', /there is no checkpoint at nowhere/],
  [
    ['train.from.path=TWO'],
    'ERR_CONFIG',
    /no tower speech in self_attn.*text, image.*train\.from\.towers: {speech: text}/,
  ],
  [['train.from.path=TWO', 'train.from.towers={sound: text}'], 'ERR_CONFIG', /names sound.*text, image, speech/],
  [['train.from.path=TWO', 'train.from.towers={speech: sound}'], 'ERR_CONFIG', /no tower sound/],
  [['train.from.path=TWO', 'train.from.weights=ema'], 'ERR_CONFIG', /no averaged weights/],
  [['train.from.path=TWO/model.safetensors', 'train.from.weights=raw'], 'ERR_FILE_OPEN', /no checkpoint/],
  [['train.from=DENSE', 'model.ffn_dim=56'], 'ERR_CONFIG', /ffn_dim 48, this one has ffn_dim 56; set model\.ffn_dim/],
  [['train.from=DENSE', 'model.n_layers=1', 'model.rope_theta=5'], 'ERR_CONFIG', /n_layers 2, rope_theta 10000/],
  [['train.from=DENSE', 'model.experts={text: 2}'], 'ERR_CONFIG', /no tensor layers\.0\.shared\.mlp\.router\.weight/],
  [['train.from=DENSE', 'data.dataset=SILENT'], 'ERR_CONFIG', /image of .* has 16 token ids.*only 14/],
])('refused before a step: %j', async (overrides, code, message) => {
  const places = { TWO: job.out('two'), DENSE: job.out('dense'), SILENT: silentData };
  const given = overrides.map((text) => text.replace(/TWO|DENSE|SILENT/, (place) => places[place as 'TWO']));
  await expect(job.train('refused', given)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  expect(job.lines('refused')).toEqual([]);
});

test('weights of another program: shapes are checked, and ids taken as they are where there are as many', async () => {
  using dense = await fileOf('dense');
  const tensors = dense.tensors.map(({ name, shape }) => ({ name, shape: [...shape], data: dense.read(name) }));
  const path = join(job.folder, 'bare.safetensors');
  await writeSafetensors(path, tensors as Parameters<typeof writeSafetensors>[1]);
  await using model = await begin(`train.from=${path}`);
  expect(await model.readTensor('weight', 'embed_tokens.weight')).toEqual(dense.read('embed_tokens.weight'));
  await expect(begin(`train.from=${path}`, `data.dataset=${silentData}`)).rejects.toMatchObject({
    code: 'ERR_CONFIG',
    message: expect.stringMatching(/54 token ids and does not say/),
  });
  await expect(begin(`train.from=${path}`, 'model.n_layers=1')).rejects.toMatchObject({
    code: 'ERR_CONFIG',
    message: expect.stringMatching(/more layers than model\.n_layers, 1/),
  });
  await expect(begin(`train.from=${path}`, 'model.ffn_dim=56')).rejects.toMatchObject({
    code: 'ERR_CONFIG',
    message: expect.stringMatching(/gate_proj\.weight in .* has shape \[48, 32\].*\[56, 32\]/),
  });
});
