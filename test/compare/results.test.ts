import { describe, expect, test } from '@jest/globals';
import { runCurves } from '../../lib/compare/curves.js';
import { renderComparison } from '../../lib/compare/html.js';
import { paperSetting } from '../../lib/compare/paper.js';
import { RemainingTime } from '../../lib/compare/remaining.js';
import { compareResults, lastThirdFall, type ComparedModel, type CompareInput } from '../../lib/compare/results.js';
import { resultText } from '../../lib/compare/text.js';
import { parseModelConfig } from '../../lib/config/model_config.js';
import type { MetricsLine, StepMetrics } from '../../lib/train/metrics.js';
import { silent } from '../../lib/train/progress.js';

const STEPS = 600;

function step(n: number, losses: Record<string, number | null>, seconds = 0.1): StepMetrics {
  const tokens_per_second = 1000 / seconds;
  return { step: n, loss: 1, losses, grad_norm: 1, lr: 0.1, tokens: 1000, tokens_per_second, elapsed: n, memory: 1 };
}

/** Metrics of a run with a loss for each modality, validated every 20 steps. */
function metrics(losses: Record<string, (t: number) => number>, seconds = 0.1): MetricsLine[] {
  return Array.from({ length: STEPS }, (_, i) => i + 1).flatMap((t): MetricsLine[] => {
    const values = Object.fromEntries(Object.entries(losses).map(([name, loss]) => [name, loss(t)]));
    const watched = { event: 'validation', step: t, loss: 1, losses: values, targets: {} } as const;
    const validation = ['validation', 'heldout'].map((split) => ({ ...watched, split }));
    return [step(t, values, seconds), ...(t % 20 === 0 ? validation : [])];
  });
}

function model(name: string, lines: MetricsLine[], over: Partial<ComparedModel> = {}): ComparedModel {
  const config = parseModelConfig({ vocab: 8, d_model: 16, n_layers: 1, n_heads: 2, modalities: ['text', 'image'] });
  const runs = [{ seed: 0, folder: `${name}-seed0`, curves: runCurves(lines) }];
  return { name, config, parameters: 1000, flopsPerToken: 50, runs, ...over };
}

function input(...models: ComparedModel[]): CompareInput {
  const machine = {
    cpu: 'c',
    instructions: 'i',
    threads: 2,
    memory_gb: 4,
    system: 's',
    node: 'n',
    package: 'p',
    date: '2026',
  };
  return {
    baseline: 'dense',
    models,
    warmupSteps: 10,
    config: { out: 'runs/x' },
    data: { name: 'd', fingerprint: 'f', documents: 3 },
    machines: [machine],
    warnings: ['said before'],
    draws: 30,
  };
}

const falling = (stretch: number) => (t: number) => 1 + 4 * (t / stretch) ** -0.5;
/** Flat in its last third. */
const flat = (t: number): number => 1.5 + 2.5 * Math.exp(-t / 50);
const dense = model('dense', metrics({ text: falling(1), image: flat }));

describe('results', () => {
  const half = model('half', metrics({ text: falling(0.5), image: (t) => flat(2 * t) }, 0.12));
  const results = compareResults(input(dense, half));
  const of = (split: string, modality: string) =>
    results.matches.find((match) => match.split === split && match.modality === modality)!;

  test('fractions of steps, FLOPs and seconds, by split and modality', () => {
    for (const split of ['train', 'validation', 'heldout'])
      for (const modality of ['text', 'image']) {
        const { measures, reached } = of(split, modality);
        expect(reached).toBe(true);
        expect(measures['steps']!.slope.value!).toBeGreaterThan(0.48);
        expect(measures['steps']!.slope.value!).toBeLessThan(0.52);
        expect(measures['flops']!.slope.value!).toBeCloseTo(measures['steps']!.slope.value!, 10);
        expect(measures['seconds']!.slope.value!).toBeCloseTo(1.2 * measures['steps']!.slope.value!, 6);
      }
    expect(results.models.map(({ name, seconds_ratio }) => [name, Number(seconds_ratio.toFixed(3))])).toEqual([
      ['dense', 1],
      ['half', 1.2],
    ]);
  });

  test('pictures that are learnt by diffusion are compared by the error of the prediction', () => {
    const diffused = (name: string, image: (t: number) => number): ComparedModel => {
      const lines = metrics({ text: falling(1), diffusion: image }).map((line): MetricsLine => {
        if (!('losses' in line)) return line;
        const { diffusion, ...losses } = line.losses;
        return { ...line, losses, diffusion_loss: diffusion! };
      });
      const { config, ...rest } = model(name, lines);
      const { modality = 'image' } = { ...config.diffusion };
      const withDiffusion = parseModelConfig({ ...config, diffusion: { patch_dim: 12 } });
      return {
        ...rest,
        config: withDiffusion,
        runs: [{ seed: 0, folder: `${name}-seed0`, curves: runCurves(lines, modality) }],
      };
    };
    const models = [diffused('dense', falling(1)), diffused('quick', falling(0.5))];
    const { matches, paper } = compareResults(input(...models));
    const image = matches.find(({ split, modality }) => split === 'validation' && modality === 'image')!;
    expect(image.measures['steps']!.slope.value!).toBeCloseTo(0.5, 1);
    expect(paper).toMatchObject({ setting: 'Transfusion' });
    const page = renderComparison(compareResults(input(...models)), models);
    expect(page).toContain('squared error of the prediction');
    expect(page).toContain('nats a token');
  });

  test('says which curves are flat, and warns of those that are not', () => {
    expect(results.flat.find(({ split, modality }) => split === 'train' && modality === 'image')).toMatchObject({
      fall: expect.closeTo(0.0006, 4),
      flat: true,
    });
    const text = results.flat.find(({ split, modality }) => split === 'train' && modality === 'text')!;
    const expected = 1 - falling(1)(STEPS) / falling(1)((2 / 3) * STEPS);
    expect(text).toMatchObject({ fall: expect.closeTo(expected, 3), flat: false });
    expect(results.warnings.join('\n')).toMatch(/too short to compare models by.* 3\.\d % \(text\);/);
    expect(lastThirdFall({ step: [1, 2, 3], value: [2, 2, 2] })).toBeCloseTo(0, 12);
  });

  test('keeps what was warned of, and tells of few seeds', () => {
    expect(results.warnings[0]).toBe('said before');
    expect(results.warnings.join('\n')).toContain('rest on one seed of dense, half');
  });

  test('names the setting of the paper', () => {
    expect(results.paper!.setting).toBe('Chameleon');
    expect(results.paper!.rows.find(({ size, model: name }) => size === '37M' && name === 'moe-4x')).toMatchObject({
      fractions: { image: { train: '.496', validation: '2.75' }, text: { train: '.591', validation: '.637' } },
    });
    expect(paperSetting(['speech', 'text', 'image'], false)).toBe('Chameleon + Speech');
    expect(paperSetting(['text', 'image'], true)).toBe('Transfusion');
    expect(paperSetting(['letter'], false)).toBeUndefined();
  });
});

describe('what a comparison must not hide', () => {
  test('a model that never gets there, and one that is better at once: bounds, nowhere NaN', () => {
    const worse = model('worse', metrics({ text: () => 9, image: () => 9 }));
    const better = model('better', metrics({ text: () => 0.5, image: () => 0.5 }));
    const models = [dense, worse, better];
    const results = compareResults(input(...models));
    for (const match of results.matches) {
      expect(match.measures['steps']!.slope).toEqual({ value: null, low: null, high: null });
      if (match.model === 'worse') expect(match).toMatchObject({ reached: false, at_most: null });
      else expect(match).toMatchObject({ reached: true, at_least: null });
      expect((match.model === 'worse' ? match.at_least : match.at_most)!).toBeGreaterThan(0);
    }
    const page = renderComparison(results, models);
    for (const text of [page.slice(page.indexOf('<h1>'), page.indexOf('<script>')), resultText(results)])
      expect(text).not.toMatch(/NaN|undefined|null|Infinity/);
    expect(page).toMatch(/<td>&gt; \d/);
    expect(page).toMatch(/<td>&lt; \.\d/);
    expect(resultText(results)).toMatch(/never as good: more than/);
  });

  test('other FLOPs, skipped steps, wandering step times', () => {
    const lines = metrics({ text: falling(1), image: flat });
    lines.forEach((line, i) => {
      if ('tokens_per_second' in line && i % 4 === 0) line.tokens_per_second /= 2;
    });
    (lines[0] as StepMetrics).skipped = true;
    const { warnings } = compareResults(input(dense, model('other', lines, { flopsPerToken: 52 })));
    expect(warnings.join('\n')).toMatch(/token of other takes 1\.040 times the FLOPs of dense/);
    expect(warnings.join('\n')).toMatch(/other: 1 steps were not finite, or loss spikes/);
    expect(warnings.join('\n')).toMatch(/Step times wandered.* of other:/);
  });

  test('steps without a loss of a modality, and losses that were not finite', () => {
    const lines = metrics({ text: falling(1), image: flat });
    for (const line of lines) if ('lr' in line && line.step % 3 === 0) delete line.losses['image'];
    (lines[3] as StepMetrics).losses['text'] = null;
    const results = compareResults(input(dense, model('gaps', lines)));
    for (const { split, measures } of results.matches)
      if (split === 'train') expect(measures['steps']!.slope.value!).toBeCloseTo(1, 1);
  });

  test('names that would be HTML', () => {
    const odd = model('<b>odd', metrics({ text: falling(1), image: flat }));
    const page = renderComparison(compareResults(input(dense, odd)), [dense, odd]);
    expect(page.slice(0, page.indexOf('<script>'))).not.toContain('<b>odd');
    expect(page).not.toMatch(/(?:src|href)="(?!data:)/);
  });
});

test('time left of the comparison: the steps of this run and of the runs after it, at the pace so far', () => {
  const said: string[] = [];
  let now = 0;
  const remaining = new RemainingTime({ ...silent, say: (sentence) => said.push(sentence) }, [100, 50], () => now);
  const run = (index: number, first: number): void => {
    const progress = remaining.during(index, `run ${index + 1} of 2`);
    progress.start(first, 100);
    for (let n = first + 1; n <= 100; n++) {
      now += 2;
      progress.step(step(n, {}));
    }
  };
  run(0, 0);
  expect(said).toEqual([
    'run 1 of 2: 4m00s left of the comparison',
    'run 1 of 2: 3m00s left of the comparison',
    'run 1 of 2: 2m00s left of the comparison',
  ]);
  run(1, 50);
  expect(said.at(-1)).toBe('run 2 of 2: 40s left of the comparison');
});
