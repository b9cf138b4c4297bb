import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseRunConfig } from '../../lib/config/run_config.js';
import { loadWorld } from '../../lib/data/emoji/concepts.js';
import { emojiOptionsSchema } from '../../lib/data/emoji/options.js';
import { findDataPackages } from '../../lib/data/emoji/packages.js';
import { SceneStream } from '../../lib/data/emoji/scene.js';
import { SceneReferences, type SceneReference } from '../../lib/data/emoji/scene_references.js';
import { openSplit } from '../../lib/data/manifest.js';
import { prepareEmoji, type PreparedDataset } from '../../lib/data/prepare_emoji.js';
import { silentPreparation } from '../../lib/data/prepare_progress.js';
import { evaluateRun, type RunEvaluation } from '../../lib/evaluate/evaluate_run.js';
import { evaluateScenes } from '../../lib/evaluate/scenes.js';
import type { Generator } from '../../lib/generate/generator.js';
import { loadTokenizers, splitSpans, type Tokenizers } from '../../lib/modalities/registry.js';
import { isStep, readMetrics, type ValidationMetrics } from '../../lib/train/metrics.js';
import { readSamples } from '../../lib/train/samples.js';
import { runTraining } from '../../lib/train/run.js';

const options = emojiOptionsSchema.parse({
  concepts: 30,
  spoken: 12,
  heldout: 0.2,
  documents: 120,
  validation_documents: 60,
  heldout_documents: 20,
  // Documents in the order of scenes of one emoji, so that they can be told apart below.
  glosses: 0,
  singles: 1,
  text_vocabulary: 400,
  image_codes: 64,
  image_stages: 1,
  speech_units: 40,
});
const cli = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));

let root: string;
let prepared: PreparedDataset;
let tokenizers: Tokenizers;
let references: SceneReferences;
let run: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'mot-eval-'));
  prepared = await prepareEmoji(options, { out: join(root, 'data'), threads: 2 });
  tokenizers = await loadTokenizers(prepared.folder, prepared.manifest);
  references = await SceneReferences.open(prepared.manifest.fingerprint, options);
  run = join(root, 'run');
  await train(run, { prepare: options });
}, 120_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A run of two steps on the data set. */
async function train(out: string, data: { dataset?: string; prepare?: unknown }, model = {}, more = {}): Promise<void> {
  const value = {
    model: { d_model: 32, n_layers: 1, n_heads: 4, head_dim: 8, ffn_dim: 48, ...model },
    data: { dataset: prepared.folder, ...data },
    train: {
      steps: 2,
      sequences: 1,
      seq_len: 256,
      warmup_steps: 1,
      checkpoint_every: 1,
      validation_documents: 60,
      ...more,
    },
  };
  await runTraining(parseRunConfig({ value, where: (key) => key.join('.') }, out));
}

function mot(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: root });
}

describe('what scenes show and say', () => {
  test.each(['validation', 'heldout'] as const)('is what the documents of %s hold', async (split) => {
    const { vocabulary } = prepared.manifest;
    const stream = new SceneStream(loadWorld(findDataPackages(), options), options, 0);
    const scenes = references.scenes(split, Infinity);
    expect(scenes).toHaveLength(stream.singles(split));
    expect(new Set(scenes.map(({ scene }) => JSON.stringify(scene))).size).toBe(scenes.length);
    const source = await openSplit(prepared.folder, prepared.manifest, split);
    try {
      const spoken: { caption: string[]; ids: number[] }[] = [];
      const count = Math.min(scenes.length, source.documents);
      for (let i = 0; i < count; i++) {
        const document = stream.document(split, i);
        if (document.kind !== 'scene') throw new Error('all documents are scenes here');
        const reference = scenes[i]!;
        expect(reference.scene).toEqual(document.scene);
        for (const { modality, ids } of splitSpans(source.read(i).token, vocabulary)) {
          if (modality === 'text') expect(reference.phrasings).toContain(tokenizers['text']!.decode(ids));
          else if (modality === 'image') expect([...tokenizers['image']!.encode(reference.picture)]).toEqual(ids);
          else spoken.push({ caption: document.caption, ids });
        }
      }
      expect(spoken.length).toBeGreaterThan(0);
      const units = await references.units(
        spoken.map(({ caption }) => caption),
        tokenizers['speech']!,
      );
      expect(units).toEqual(spoken.map(({ ids }) => [ids]));
    } finally {
      source.close();
    }
  });

  test('is not known of a data set that was made in another way', async () => {
    await expect(SceneReferences.open('another', options)).rejects.toMatchObject({ code: 'ERR_DATA' });
  });
});

describe('a generator that is always right, and one that mixes scenes up', () => {
  const COUNT = 24;
  let scenes: SceneReference[];
  let units: number[][][];
  beforeAll(async () => {
    scenes = references.scenes('heldout', COUNT);
    const spoken = scenes.flatMap((scene) => (scene.spoken ? [scene.spoken] : []));
    units = await references.units(spoken, tokenizers['speech']!);
  }, 60_000);

  const evaluateWith = (generator: Generator) =>
    evaluateScenes(
      references,
      'heldout',
      COUNT,
      generator,
      { tokenizers, codecs: {} },
      {
        seed: 0,
        progress: silentPreparation,
        skip: (metric, reason) => {
          throw new Error(`${metric}: ${reason}`);
        },
      },
    );

  /** Answers with what is true of the scene `shift` places on. */
  function oracle(shift: number): Generator {
    const of = <T>(list: readonly T[], i: number): T => list[(i + shift) % list.length]!;
    return {
      draw: (captions) => Promise.resolve(captions.map((_, i) => of(scenes, i).picture)),
      name: (pictures) => Promise.resolve(pictures.map((_, i) => of(scenes, i).phrasings.at(-1)!)),
      // Held units count once.
      speak: (captions) => Promise.resolve(captions.map((_, i) => of(units, i)[0]!.flatMap((unit) => [unit, unit]))),
    };
  }

  test('the first gets full marks', async () => {
    const metrics = await evaluateWith(oracle(0));
    expect(metrics).toMatchObject({
      retrieval: {
        top1: { value: 1, high: 1, count: COUNT },
        top5: { value: 1 },
        concepts: 30,
        chance: { top1: 1 / 30 },
      },
      captions: { exact: { value: 1 }, concept: { value: 1 }, editDistance: { value: 0 } },
      speech: { unitErrorRate: { value: 0 } },
    });
    // Tokens lose little of the picture.
    expect(metrics.retrieval!.ceiling.top1.value).toBeGreaterThan(0.8);
  });

  test('the second does not', async () => {
    const metrics = await evaluateWith(oracle(1));
    expect(metrics.retrieval!.top1.value).toBeLessThan(0.5);
    expect(metrics.captions!.exact.value).toBe(0);
    expect(metrics.captions!.concept.value).toBeLessThan(0.5);
    expect(metrics.captions!.editDistance.value).toBeGreaterThan(0.3);
    expect(metrics.speech!.unitErrorRate.value).toBeGreaterThan(0.3);
  });
});

describe('mot eval', () => {
  let first: RunEvaluation;
  beforeAll(async () => {
    first = await evaluateRun(run, { samples: 4, threads: 1 });
  });

  test('measures everything on both splits', () => {
    expect(first).toMatchObject({ run, step: 2, seed: 0, skipped: [] });
    expect(Object.keys(first.splits)).toEqual(['validation', 'heldout']);
    for (const evaluation of Object.values(first.splits)) {
      expect(Object.keys(evaluation.losses)).toEqual(['text', 'image', 'speech']);
      for (const { loss, perplexity } of Object.values(evaluation.losses)) expect(perplexity).toBe(Math.exp(loss));
      expect(evaluation).toMatchObject({
        retrieval: { top1: { count: 4 }, concepts: 30 },
        captions: { exact: { count: 4 } },
      });
    }
    // What the run's own validation found, up to its bf16.
    const validated = readMetrics(join(run, 'metrics.jsonl')).find(
      (line): line is ValidationMetrics =>
        !isStep(line) && 'split' in line && line.step === 2 && line.split === 'heldout',
    )!;
    for (const [modality, loss] of Object.entries(validated.losses))
      expect(Math.abs(first.splits.heldout!.losses[modality]!.loss - loss!)).toBeLessThan(0.01 * loss!);
    const { losses, documents } = first.splits.validation!;
    const { splits } = prepared.manifest;
    expect(documents).toBe(splits.validation.documents);
    expect(Object.values(losses).map(({ tokens }) => tokens)).toEqual(Object.values(splits.validation.targets));
  });

  test('finds the same again with other threads, from the command line, and writes it', () => {
    const { status, stdout } = mot('eval', run, '--samples', '4', '--threads', '2', '--json', '--out', 'eval.json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual(first);
    expect(JSON.parse(readFileSync(join(root, 'eval.json'), 'utf8'))).toEqual(first);
  });

  test('takes the checkpoint, the split and the documents that it is told', () => {
    const { status, stdout } = mot(
      ...['eval', run, '--checkpoint', '1', '--split', 'heldout', '--documents', '5', '--samples', '0', '--json'],
    );
    expect(status).toBe(0);
    const result = JSON.parse(stdout) as RunEvaluation;
    expect(result).toMatchObject({ step: 1, skipped: [], splits: { heldout: { documents: 5 } } });
    expect(Object.keys(result.splits)).toEqual(['heldout']);
    expect(result.splits.heldout!.retrieval).toBeUndefined();
    expect(result.splits.heldout!.losses['text']!.loss).not.toBe(first.splits.heldout!.losses['text']!.loss);
  });

  test('prints a table of each split', () => {
    const { status, stdout } = mot('eval', run, '--samples', '4');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Known concepts, new scenes\n {2}text loss/m);
    expect(stdout).toMatch(/^Held-out concepts\n/m);
    expect(stdout).toMatch(/top 1 +\d+\.\d % +\[\d+\.\d, \d+\.\d\] of 4; chance 3\.3 %, through tokens/);
    expect(stdout).not.toContain('not measured');
  });

  test.each([
    [['eval', 'nowhere'], 1, /ERR_FILE_OPEN/],
    [['eval', 'run', '--checkpoint', '7'], 1, /there is no checkpoint at .*step-000007/],
    [['eval', 'run', '--split', 'train'], 2, /--split must be validation or heldout or both/],
    [['eval', 'run', '--out', 'no/such/eval.json'], 1, /ERR_FILE_WRITE/],
  ])('%j exits %d', (args, code, message) => {
    const { status, stderr } = mot(...args);
    expect({ status, stderr }).toEqual({ status: code, stderr: expect.stringMatching(message) });
    // Nothing was computed before.
    expect(stderr).not.toMatch(/losses/);
  });

  test('a model without speech skips it; what its scenes show is in the data set, not in the config', async () => {
    const silent = { ...options, spoken: 0, documents: 60 };
    const { folder } = await prepareEmoji(silent, { out: join(root, 'silent'), threads: 2 });
    const out = join(root, 'silent-run');
    await train(out, { dataset: folder });
    const result = await evaluateRun(out, { samples: 2, splits: ['validation'], documents: 3 });
    expect(result.skipped).toEqual([{ metric: 'validation: speech', reason: expect.stringContaining('no speech') }]);
    expect(result.splits.validation).toMatchObject({ retrieval: { top1: { count: 2 } } });
    expect(result.splits.validation!.speech).toBeUndefined();
  }, 60_000);

  test('averaged weights by default where there are some, raw ones when asked', async () => {
    const out = join(root, 'averaging-run');
    await train(out, { prepare: options }, {}, { ema_decay: 0.9 });
    const losses = async (from: string, weights?: 'ema' | 'raw'): Promise<RunEvaluation> =>
      evaluateRun(from, { samples: 0, splits: ['validation'], ...(weights ? { weights } : {}) });
    const averaged = await losses(out);
    const raw = await losses(out, 'raw');
    expect([averaged.weights, raw.weights]).toEqual(['ema', 'raw']);
    // The same steps as those of the run without an average.
    const plain = await losses(run);
    expect(plain.weights).toBe('raw');
    expect(raw.splits).toEqual(plain.splits);
    expect(averaged.splits).not.toEqual(plain.splits);
    await expect(losses(run, 'ema')).rejects.toMatchObject({
      code: 'ERR_FILE_OPEN',
      message: expect.stringMatching(/step-000002 has no averaged weights.*train\.ema_decay/),
    });
    const { stdout } = mot('eval', out, '--samples', '0', '--split', 'validation');
    expect(stdout).toMatch(/step-000002, averaged weights/);
    const prompt = ['--text', 'red heart', '--max-tokens', '2', '--weights'];
    expect(mot('generate', out, ...prompt, 'raw').status).toBe(0);
    expect(mot('generate', run, ...prompt, 'ema')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('no averaged weights'),
    });
    expect(mot('generate', run, ...prompt, 'mean').status).toBe(2);
  }, 60_000);

  test('a model with expert choice: losses, and why no more, unless asked for the approximation', async () => {
    const out = join(root, 'experts-run');
    await train(out, { prepare: options }, { untied: false, experts: { shared: 2 } });
    const losses = await evaluateRun(out, { samples: 2 });
    expect(losses.skipped).toEqual([{ metric: 'generation', reason: expect.stringContaining('expert choice') }]);
    expect(Object.keys(losses.splits)).toEqual(['validation', 'heldout']);
    for (const split of Object.values(losses.splits)) expect(Object.keys(split)).toEqual(['documents', 'losses']);

    const all = await evaluateRun(out, { samples: 2, splits: ['heldout'], approximateRouting: true });
    expect(all.skipped).toEqual([]);
    expect(all.splits.heldout).toMatchObject({ retrieval: { top1: { count: 2 } } });
    expect(all.splits.heldout!.losses).toEqual(losses.splits.heldout!.losses);
  });

  test('a model of continuous pictures, trained from end to end: its diffusion loss, and pictures that it draws', async () => {
    const continuous = emojiOptionsSchema.parse({ ...options, spoken: undefined, documents: 60, latents: {} });
    const { folder } = await prepareEmoji(continuous, { out: join(root, 'latents'), threads: 2 });
    const out = join(root, 'latents-run');
    const samples = { every: 2, count: 1 };
    await train(out, { dataset: folder, prepare: { latents: {} } }, { diffusion: {} }, { samples });
    const drawn = readSamples(out, 2)!.find(({ generated }) => generated.modality === 'image')!;
    expect(drawn).toMatchObject({ prompt: [{ modality: 'text' }], generated: { file: 'image-0-generated.png' } });
    const result = await evaluateRun(out, { samples: 2, splits: ['heldout'] });
    const heldout = result.splits.heldout!;
    expect(Object.keys(heldout.losses)).toEqual(['text']);
    expect(heldout.retrieval!.top1.count).toBe(2);
    const validated = readMetrics(join(out, 'metrics.jsonl')).find(
      (line): line is ValidationMetrics =>
        !isStep(line) && 'split' in line && line.step === 2 && line.split === 'heldout',
    )!;
    expect(heldout.diffusionLoss! / validated.diffusion_loss!).toBeCloseTo(1, 2);
    // Nothing is learnt yet, and the noise has variance 1.
    expect(heldout.diffusionLoss).toBeGreaterThan(0.5);
    expect(heldout.diffusionLossWithoutCaption! / heldout.diffusionLoss!).toBeCloseTo(1, 1);
    expect(heldout.diffusionLossWithoutCaption).not.toBe(heldout.diffusionLoss);
    const table = mot('eval', out, '--samples', '0', '--split', 'heldout').stdout;
    expect(table).toMatch(/diffusion loss +\d\.\d+ .*\n +the same, no captions +\d\.\d/);
  }, 90_000);

  test('a data set whose options are not known: losses only, and why', async () => {
    const folder = join(root, 'foreign');
    cpSync(prepared.folder, folder, { recursive: true });
    const file = join(folder, 'manifest.json');
    const manifest = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    delete manifest['options'];
    writeFileSync(file, JSON.stringify(manifest));
    const out = join(root, 'foreign-run');
    await train(out, { dataset: folder });
    const result = await evaluateRun(out, { samples: 2, splits: ['heldout'] });
    expect(result.skipped).toEqual([{ metric: 'generation', reason: expect.stringContaining('data.prepare') }]);
    expect(Object.keys(result.splits.heldout!)).toEqual(['documents', 'losses']);

    const sources = [{ kind: 'text', patterns: ['a.txt'], files: 1, items: 1, skipped: 0, documents: 1, tokens: {} }];
    writeFileSync(file, JSON.stringify({ ...manifest, sources }));
    const own = mot('eval', out, '--split', 'heldout').stdout;
    expect(own).toMatch(/^Held-out documents\n {2}text loss/m);
    expect(own).toMatch(/^not measured: generation: .*these documents are your own/m);

    writeFileSync(file, JSON.stringify({ ...manifest, fingerprint: 'of other data' }));
    await expect(evaluateRun(out)).rejects.toMatchObject({ code: 'ERR_DATA' });
  });
});
