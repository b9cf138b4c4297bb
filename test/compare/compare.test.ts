import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseComparison, readComparison } from '../../lib/compare/config.js';
import { writeComparisonReport } from '../../lib/compare/report.js';
import type { CompareResults } from '../../lib/compare/results.js';
import { runComparison, type ModelSummary } from '../../lib/compare/run.js';
import { emojiOptionsSchema } from '../../lib/data/emoji/options.js';
import { prepareEmoji } from '../../lib/data/prepare_emoji.js';
import { silent } from '../../lib/train/progress.js';
import { isStep, readMetrics } from '../../lib/train/metrics.js';
import { writeTinyDataset } from '../train/tiny_dataset.js';

const cli = fileURLToPath(new URL('../../lib/cli/main.js', import.meta.url));
const STEPS = 60;
const RUNS = ['dense-seed0', 'dense-seed1', 'mot-seed0', 'mot-seed1'];
let folder: string;
let config: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mot-compare-'));
  await writeTinyDataset(join(folder, 'data'), 1200);
  config = join(folder, 'tiny.yaml');
  writeFileSync(
    config,
    `model: {d_model: 32, n_layers: 1, n_heads: 4, head_dim: 8, ffn_dim: 48}
data: {dataset: ${JSON.stringify(join(folder, 'data'))}}
train:
  steps: ${STEPS}
  sequences: 4
  seq_len: 48
  lr: 0.01
  warmup_steps: 3
  validate_every: 10
  validation_documents: 10
  checkpoint_every: 8
  dtype: f32
compare:
  models:
    dense: {untied: false}
    mot: {}
  seeds: [0, 1]
`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const out = (name: string): string => join(folder, name);

function mot(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: folder });
  return { status, stdout, stderr };
}

/** Losses of a run: all that must be the same however it was interrupted. */
function losses(name: string, run: string): unknown[] {
  return readMetrics(join(out(name), run, 'metrics.jsonl'))
    .filter((line) => isStep(line) || line.event === 'validation')
    .map((line) => ({ step: line.step, losses: 'losses' in line ? line.losses : {} }));
}

async function exitOf(child: ChildProcess): Promise<{ code: number | null; stderr: string }> {
  let stderr = '';
  child.stderr!.on('data', (text: Buffer) => (stderr += text.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stderr };
}

/** Starts a comparison in a process of its own and waits until a run has come to a step. */
async function startUntil(name: string, run: string, step: number): Promise<ChildProcess> {
  const child = spawn(process.execPath, [cli, 'compare', config, `out=${out(name)}`], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const metrics = join(out(name), run, 'metrics.jsonl');
  while (!existsSync(metrics) || !readMetrics(metrics).some((line) => line.step >= step)) {
    expect(child.exitCode).toBeNull();
    await sleep(1);
  }
  return child;
}

describe('mot compare', () => {
  let results: CompareResults;
  beforeAll(() => {
    const { status, stdout, stderr } = mot('compare', config, `out=${out('whole')}`, '--json');
    expect({ status, stderr }).toMatchObject({ status: 0 });
    results = JSON.parse(stdout) as CompareResults;
    expect(stderr).toMatch(/run 1 of 4: dense, seed 0[^]*run 4 of 4: mot, seed 1/);
    expect(stderr).toMatch(/^mot +[\d,]+ +[\d.]+ +1\.000 +0, 1$/m);
  }, 120_000);

  test('trains every model with every seed, on the same data in the same order', () => {
    const tokens = (run: string): number[] =>
      readMetrics(join(out('whole'), run, 'metrics.jsonl'))
        .filter(isStep)
        .map((line) => line.tokens);
    expect(readdirSync(out('whole')).sort()).toEqual(
      [...RUNS, 'compare.html', 'comparison.json', 'results.json'].sort(),
    );
    expect(tokens('mot-seed0')).toEqual(tokens('dense-seed0'));
    expect(tokens('mot-seed1')).toEqual(tokens('dense-seed1'));
    expect(tokens('dense-seed1')).not.toEqual(tokens('dense-seed0'));
  });

  test('results.json says everything with its interval', () => {
    expect(JSON.parse(readFileSync(join(out('whole'), 'results.json'), 'utf8'))).toEqual(results);
    expect(results).toMatchObject({ format: 'mot-compare', version: 1, baseline: 'dense', data: { documents: 1200 } });
    expect(results.matches.map(({ split, modality }) => `${split} ${modality}`)).toEqual(
      ['train', 'validation', 'heldout'].flatMap((split) => ['text', 'image', 'speech'].map((m) => `${split} ${m}`)),
    );
    for (const { measures } of results.matches) {
      expect(Object.keys(measures)).toEqual(['steps', 'flops', 'seconds']);
      const { value, low, high } = measures['steps']!.slope;
      if (value !== null) expect(low! <= value && (high === null || high >= value)).toBe(true);
    }
    expect(results.models.map(({ name, flops_ratio }) => [name, flops_ratio])).toEqual([
      ['dense', 1],
      ['mot', 1],
    ]);
    expect(results.models[1]!.parameters).toBeGreaterThan(results.models[0]!.parameters);
    expect(results.flat).toHaveLength(9);
    expect(results.warnings.join('\n')).toMatch(/2 seeds of dense, mot/);
    expect(results.paper!.rows.length).toBeGreaterThan(0);
  });

  test('compare.html stands alone and shows every modality beside the paper', () => {
    const page = readFileSync(join(out('whole'), 'compare.html'), 'utf8');
    for (const part of [
      '<h2>text</h2>',
      '<h2>image</h2>',
      '<h2>speech</h2>',
      'paper: mot 443M',
      '.282',
      'dense: {untied',
    ])
      expect(page.replaceAll('\n', ' ')).toContain(part === 'dense: {untied' ? 'd_model: 32' : part);
    expect(page).not.toMatch(/(?:src|href)="(?!data:)/);
    for (const [, id] of page.matchAll(/class="chart" id="([^"]+)"/g)) expect(page).toContain(`{"id":"${id}"`);
  });

  test('again: nothing is trained, the report stays the same', () => {
    const { status, stdout, stderr } = mot('compare', config, `out=${out('whole')}`);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(stderr).not.toContain('run 1 of');
    expect(stdout).toContain('compare.html');
    const report = mot('compare', '--report', out('whole'), '--json');
    expect(JSON.parse(report.stdout)).toEqual(results);
  });

  test('killed in one run, stopped in another, then finished: the same losses', async () => {
    const killed = await startUntil('broken', 'dense-seed1', 20);
    killed.kill('SIGKILL');
    await exitOf(killed);
    const stopped = await startUntil('broken', 'mot-seed0', 5);
    stopped.kill('SIGINT');
    const { code, stderr } = await exitOf(stopped);
    expect(code).toBe(0);
    expect(stderr).toMatch(/stopped with 2 of 4 runs finished; the same command goes on/);
    const early = mot('compare', '--report', out('broken'));
    expect(early).toMatchObject({ status: 1, stderr: expect.stringMatching(/no finished runs to compare.*ERR_DATA/) });
    const { status } = mot('compare', config, `out=${out('broken')}`);
    expect(status).toBe(0);
    for (const run of RUNS) expect(losses('broken', run)).toEqual(losses('whole', run));
  }, 120_000);

  test('a report of the runs that are there names those that are missing', () => {
    rmSync(join(out('broken'), 'mot-seed1'), { recursive: true });
    const { results: some } = writeComparisonReport(out('broken'));
    expect(some.warnings[0]).toBe('Not finished and left out: mot seed 1.');
    expect(some.models[1]!.runs.map(({ seed }) => seed)).toEqual([0]);
  });
});

describe('mixtures of experts', () => {
  test('have the arithmetic of the baseline, and the note that expert choice looks ahead', async () => {
    const experts = [
      'compare.models.moe={untied: false, experts: {shared: 4}}',
      'compare.models.hybrid={experts: {text: 4}}',
      'compare.models.causal={untied: false, experts: {shared: {count: 4, routing: token_choice}}}',
    ];
    const overrides = [`out=${out('experts')}`, 'train.steps=12', 'compare.seeds=[0]', ...experts];
    let summaries: ModelSummary[] = [];
    await runComparison(readComparison(config, overrides), { onModels: (models) => (summaries = models) });
    expect(summaries.map(({ name }) => name)).toEqual(['dense', 'mot', 'moe', 'hybrid', 'causal']);
    for (const { flopsRatio } of summaries) {
      expect(flopsRatio).toBeGreaterThanOrEqual(1);
      expect(flopsRatio).toBeLessThan(1.02);
    }
    const { results: found } = writeComparisonReport(out('experts'));
    expect(found.warnings).toContainEqual(expect.stringMatching(/^moe, hybrid: expert choice looks ahead/));
    expect(new Set(found.matches.map(({ model }) => model))).toEqual(new Set(['mot', 'moe', 'hybrid', 'causal']));
  }, 60_000);
});

describe('pictures by diffusion', () => {
  test('are compared by the error of the prediction, for towers and masks', async () => {
    const prepare = {
      concepts: 12,
      heldout: 0.2,
      documents: 300,
      validation_documents: 6,
      heldout_documents: 6,
      glosses: 0,
      text_vocabulary: 300,
      latents: {},
    };
    const options = emojiOptionsSchema.parse(prepare);
    const { folder: dataset } = await prepareEmoji(options, { out: join(folder, 'latents'), threads: 2 });
    const value = {
      model: { d_model: 16, n_layers: 1, n_heads: 2, ffn_dim: 24, diffusion: {} },
      data: { dataset, prepare: { latents: {} } },
      train: { steps: 12, sequences: 1, seq_len: 256, warmup_steps: 1, validate_every: 4, validation_documents: 6 },
      compare: { models: { dense: { untied: false }, mot: {}, causal: { image_mask: 'causal' } } },
    };
    const plan = parseComparison({ value, where: () => '' }, out('diffusion'));
    expect(await runComparison(plan)).toMatchObject({ finished: 3 });
    const { results, page } = writeComparisonReport(plan.out);
    expect(results.models.map(({ final }) => Object.keys(final.validation!))).toEqual(
      ['dense', 'mot', 'causal'].map(() => ['text', 'image']),
    );
    expect(results.paper!.setting).toBe('Transfusion');
    expect(readFileSync(page, 'utf8')).toContain('squared error of the prediction');
    const validated = (run: string): (number | null | undefined)[] =>
      readMetrics(join(plan.out, run, 'metrics.jsonl')).flatMap((line) =>
        !isStep(line) && line.event === 'validation' ? [line.diffusion_loss] : [],
      );
    expect(validated('mot-seed0')).toHaveLength(6);
    expect(validated('causal-seed0')).not.toEqual(validated('mot-seed0'));
  }, 90_000);
});

describe('refused before any training', () => {
  const refused = async (overrides: string[], code: string, message: RegExp): Promise<void> => {
    const said: string[] = [];
    const say = (sentence: string): void => void said.push(sentence);
    const run = async (): Promise<unknown> =>
      runComparison(readComparison(config, overrides), { progress: { ...silent, say } });
    await expect(run()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(said).toEqual([]);
  };

  test('an interrupted comparison whose config changed', async () => {
    const changed = (...overrides: string[]) => [`out=${out('whole')}`, ...overrides];
    await refused(changed('train.lr=0.02'), 'ERR_CONFIG', /of dense, train\.lr was 0\.01 and is now 0\.02/);
    await refused(
      changed('compare.models.mot.ffn_dim=56'),
      'ERR_CONFIG',
      /of mot, model\.ffn_dim was 48 and is now 56/,
    );
    await refused(changed('train.validate_every=20'), 'ERR_CONFIG', /train\.validate_every was 10 and is now 20/);
    await refused(changed('train.steps=90'), 'ERR_CONFIG', /train\.steps was 60 and is now 90/);
  });

  test('a run that would see documents again, unless that is allowed', async () => {
    await refused(
      [`out=${out('long')}`, 'train.steps=1000'],
      'ERR_CONFIG',
      /data set has 1200.*data\.prepare\.documents=\d+/,
    );
    const stop = AbortSignal.abort();
    const overrides = [`out=${out('long')}`, 'train.steps=1000', 'compare.allow_repeats=true'];
    const { finished } = await runComparison(readComparison(config, overrides), { stop });
    expect(finished).toBe(0);
  });

  test.each<[string, RegExp]>([
    ['compare.models.mot.towers={mlp: {text: a, image: b}}', /mot: .*towers\.mlp gives no tower to speech/],
    ['compare.models.mot.ffn=3', /compare\.models\.mot\.ffn: unknown key ffn; known keys: vocab/],
    ['compare.baseline=none', /compare\.baseline: none is none of the models dense, mot/],
    ['compare.seeds={dense: [0]}', /compare\.seeds: gives no seeds to mot/],
    ['compare.seeds=[1, 1]', /compare\.seeds: names a seed twice/],
    ['compare.models={dense: {}}', /two models or more/],
    ['compare.models.Big={}', /cannot name a model/],
    ['compare.model={}', /unknown key compare\.model; did you mean models\?/],
    ['train.validation_documents=0', /judged by validation/],
    ['train.seq_len=10', /longest document has \d+ tokens/],
  ])('%s', (override, message) => refused([`out=${out('refused')}`, override], 'ERR_CONFIG', message));

  test('neither config nor folder, and a folder without comparison', () => {
    expect(mot('compare')).toMatchObject({ status: 2, stderr: expect.stringContaining('takes a config, or --report') });
    expect(mot('compare', '--report', folder)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/holds no comparison.*ERR_FILE_OPEN/),
    });
  });
});

describe('configs', () => {
  test('a preset and keys of a model take the place of shared ones', () => {
    const source = {
      model: { preset: 'emoji-tiny-dense', z_loss: 0.25 },
      train: { steps: 20, warmup_steps: 2 },
      compare: { models: { dense: {}, mot: { preset: 'emoji-tiny-mot' }, wide: { ffn_dim: 640 } }, seeds: [4] },
    };
    const { runs } = parseComparison({ value: source, where: () => '' }, 'runs/x');
    expect(runs.map(({ model, config: { out: run, train } }) => [model, run, train.seed])).toEqual([
      ['dense', 'runs/x/dense-seed4', 4],
      ['mot', 'runs/x/mot-seed4', 4],
      ['wide', 'runs/x/wide-seed4', 4],
    ]);
    const [dense, moT, wide] = runs.map(({ config: { model } }) => model);
    expect(dense).toMatchObject({ untied: false, z_loss: 0.25 });
    expect(moT).toMatchObject({ untied: true, z_loss: 1e-5 });
    expect(wide).toEqual({ ...dense, ffn_dim: 640 });
  });

  test('what a patch sees may differ, as the one thing of the data', () => {
    const source = {
      model: { preset: 'emoji-tiny-mot', diffusion: {} },
      data: { prepare: { latents: {} }, diffusion: { caption_dropout: 0.5 } },
      train: { steps: 20, warmup_steps: 2 },
      compare: { baseline: 'both', models: { both: {}, causal: { image_mask: 'causal' } } },
    };
    const where = (path: readonly PropertyKey[]): string => `${path.join('.')}: `;
    const [both, causal] = parseComparison({ value: source, where }, 'runs/x').runs.map(({ config }) => config);
    expect(both!.data.diffusion).toMatchObject({ image_mask: 'bidirectional', caption_dropout: 0.5 });
    expect(causal!.data).toEqual({ ...both!.data, diffusion: { ...both!.data.diffusion, image_mask: 'causal' } });
    expect(causal!.model).toEqual(both!.model);
    source.compare.models.causal.image_mask = 'none';
    expect(() => parseComparison({ value: source, where }, 'runs/x')).toThrow(/compare\.models\.causal\.image_mask: /);
  });

  const recipes = fileURLToPath(new URL('../../../recipes/', import.meta.url));
  test.each(readdirSync(recipes).filter((file) => file.startsWith('compare-')))('%s', (file) => {
    const { baseline, models, runs, out: folderOfRecipe } = readComparison(join(recipes, file));
    const first = file === 'compare-image-mask.yaml' ? 'bidirectional' : 'dense';
    expect([baseline, models[0], folderOfRecipe]).toEqual([first, first, `runs/${file.replace('.yaml', '')}`]);
    // The same batches for every model.
    for (const { config: run } of runs)
      expect({ ...run.train, seed: 0 }).toEqual({ ...runs[0]!.config.train, seed: 0 });
  });
});
