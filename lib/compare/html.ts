import path from 'node:path';
import { stringify } from 'yaml';
import type { Chart, ChartSeries } from '../report/charts.js';
import type { Curve } from '../report/data.js';
import { escapeHtml, factList, renderPage } from '../report/page.js';
import type { CurveSplit } from './curves.js';
import { SPLITS } from './curves.js';
import type { ComparedModel, CompareResults, MatchResult } from './results.js';
import { FLAT } from './results.js';
import { smoothCurve } from './smooth.js';
import { estimateText, fraction, matchRemark } from './text.js';

/** By place among the models, the baseline first; told apart by the colour-blind too (Okabe and Ito). */
const COLORS = ['#8a8a8a', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00'];
const SPLIT_NAMES: Record<CurveSplit, string> = { train: 'training', validation: 'validation', heldout: 'held-out' };
/** Curves begin at this share of the run: before it all losses fall so steeply that nothing else would be seen. */
const SHOWN_FROM = 0.08;

const STYLE = `<style>
.scroll { overflow-x: auto; } .scroll table { white-space: nowrap; } td.remark { white-space: normal; min-width: 30ch; text-align: left; color: var(--soft); font-size: 13px; }
tr.paper td { color: var(--soft); } .scroll { margin-bottom: 14px; } .detail :is(td, th):nth-child(2) { text-align: left; } ul.warnings { padding-left: 20px; max-width: 85ch; } ul.warnings li { margin: 4px 0; } h3 { margin: 26px 0 6px; font-size: 17px; }
td small { color: var(--soft); }
</style>`;

/** The page of a comparison: everything in one file. */
export function renderComparison(results: CompareResults, models: readonly ComparedModel[]): string {
  const modalities = models[0]!.config.modalities.filter((modality) =>
    results.matches.some((match) => match.modality === modality),
  );
  const charts: Chart[] = [];
  const title = `${path.basename(String(results.config['out'] ?? ''))}: models beside ${results.baseline}`;
  const body = `${STYLE}<h1>${escapeHtml(title)}</h1>
<p class="note">What fraction of the training of ${escapeHtml(results.baseline)} does each model need to come to the same loss? Lower is better; 1 is the baseline itself.</p>
${facts(results)}
${warnings(results)}
<h2>Fraction of the baseline's steps</h2>
<p class="note">Slope through the origin on validation: new scenes of concepts that training saw. 95 % intervals in brackets.</p>
${overview(results, modalities)}
${modalities.map((modality) => modalitySection(results, models, modality, charts)).join('\n')}
<h2>Models</h2>${modelTable(results)}
<h2>Losses at the end</h2><p class="note">Nats a token, mean over the seeds.</p>${finalTable(results, modalities)}
<h2>Is the curve flat?</h2>
<p class="note">How much the loss of ${escapeHtml(results.baseline)} falls in the last third of its run; below ${100 * FLAT} % it counts as flat. Where models are compared earlier, all look alike.</p>
${flatTable(results, modalities)}
${method()}
<h2>Hardware and data</h2>${hardware(results)}
<details><summary>Config of the comparison</summary><pre>${escapeHtml(stringify(results.config))}</pre></details>`;
  return renderPage(title, body, charts);
}

function table(rows: readonly (readonly string[])[], head: readonly string[], classes: readonly string[] = []): string {
  const cells = (row: readonly string[]): string =>
    row.map((cell) => (cell.startsWith('<td') ? cell : `<td>${cell}</td>`)).join('');
  return `<div class="scroll"><table><tr>${head.map((cell) => `<th>${cell}</th>`).join('')}</tr>${rows
    .map((row, i) => `<tr${classes[i] ? ` class="${classes[i]}"` : ''}>${cells(row)}</tr>`)
    .join('')}</table></div>`;
}

function facts({ models, data, baseline }: CompareResults): string {
  const runs = models.flatMap((model) => model.runs);
  const { steps, tokens_per_step: tokens } = runs[0]!;
  const seconds = runs.reduce((sum, run) => sum + run.steps * run.seconds_per_step, 0);
  return factList([
    ['baseline', baseline],
    [
      'models',
      models
        .map(({ name, runs: own }) => `${name} (${own.length === 1 ? '1 seed' : `${own.length} seeds`})`)
        .join(', '),
    ],
    ['steps of a run', steps.toLocaleString('en')],
    ['tokens of a run', `${((steps * tokens) / 1e6).toFixed(1)} M`],
    ['steps took in all', `${(seconds / 60).toFixed(0)} min`],
    ['data set', `${data.name}, ${data.documents.toLocaleString('en')} documents`],
  ]);
}

function warnings({ warnings: sentences }: CompareResults): string {
  if (sentences.length === 0) return '';
  return `<h2>To keep in mind</h2><ul class="warnings">${sentences.map((s) => `<li>${escapeHtml(s)}</li>`).join('')}</ul>`;
}

/** One number a model and modality; the paper's below. */
function overview(results: CompareResults, modalities: readonly string[]): string {
  const own = results.models
    .filter(({ name }) => name !== results.baseline)
    .map(({ name }) => [
      escapeHtml(name),
      ...modalities.map((modality) => {
        const match = find(results, name, 'validation', modality);
        return match ? value(match, 'steps', 'slope') : '–';
      }),
    ]);
  const paper = (results.paper?.rows ?? []).map(({ model, size, fractions }) => [
    `paper: ${model} ${size}`,
    ...modalities.map((modality) => escapeHtml(fractions[modality]?.validation ?? '–')),
  ]);
  const classes = [...own.map(() => ''), ...paper.map(() => 'paper')];
  return table([...own, ...paper], ['model', ...modalities.map(escapeHtml)], classes);
}

function find(results: CompareResults, model: string, split: CurveSplit, modality: string): MatchResult | undefined {
  return results.matches.find((m) => m.model === model && m.split === split && m.modality === modality);
}

/** An estimate with its interval; bounds where there is no pair of steps or the baseline's end was not reached. */
function value(match: MatchResult, measure: string, of: 'slope' | 'end'): string {
  const estimate = match.measures[measure]![of];
  if (estimate.value === null && measure === 'steps') {
    if (match.at_most !== null) return `&lt; ${fraction(match.at_most)}`;
    if (match.at_least !== null) return `&gt; ${fraction(match.at_least)}`;
  }
  const [first, ...rest] = estimateText(estimate).split(' ');
  return rest.length > 0 ? `${first} <small>${rest.join(' ')}</small>` : first!;
}

function modalitySection(
  results: CompareResults,
  models: readonly ComparedModel[],
  modality: string,
  charts: Chart[],
): string {
  const rows: string[][] = [];
  const classes: string[] = [];
  for (const split of SPLITS)
    for (const match of results.matches.filter((m) => m.split === split && m.modality === modality)) {
      rows.push([
        escapeHtml(match.model),
        SPLIT_NAMES[split],
        value(match, 'steps', 'slope'),
        value(match, 'steps', 'end'),
        value(match, 'flops', 'slope'),
        value(match, 'seconds', 'slope'),
        `<td class="remark">${escapeHtml(matchRemark(match))}</td>`,
      ]);
      classes.push('');
    }
  for (const row of results.paper?.rows ?? []) {
    const of = row.fractions[modality];
    for (const split of ['train', 'validation'] as const) {
      if (of?.[split] === undefined) continue;
      rows.push([
        `paper: ${row.model} ${row.size}`,
        SPLIT_NAMES[split],
        escapeHtml(of[split]),
        '–',
        '–',
        '–',
        `<td class="remark">${escapeHtml(row.setting)}</td>`,
      ]);
      classes.push('paper');
    }
  }
  const drawn = [
    ...SPLITS.map((split) => lossChart(results, models, modality, split)),
    ...SPLITS.map((split) => matchChart(results, modality, split)),
  ].filter((chart) => chart.series.length > 0);
  charts.push(...drawn);
  return `<h2>${escapeHtml(modality)}</h2>
<div class="detail">${table(rows, ['model', 'loss', 'steps, slope', 'steps, end point', 'FLOPs, slope', 'seconds, slope', ''], classes)}</div>
${results.paper ? `<p class="note">Grey: the paper's models of ${escapeHtml(results.paper.setting)} (${escapeHtml(results.paper.source)}), with their own data and far larger; where it gives one figure it does not say of which loss.</p>` : ''}
<div class="charts">${drawn.map(({ id }) => `<div class="chart" id="${id}"></div>`).join('')}</div>`;
}

function color(results: CompareResults, name: string): string {
  return COLORS[results.models.findIndex((model) => model.name === name) % COLORS.length]!;
}

/** Loss of every model, mean over its seeds; training smoothed. */
function lossChart(
  results: CompareResults,
  models: readonly ComparedModel[],
  modality: string,
  split: CurveSplit,
): Chart {
  const series = models.flatMap(({ name, runs }): ChartSeries[] => {
    const curves = runs.flatMap(({ curves: { losses } }) => losses[split][modality] ?? []);
    const shown = meanCurve(split === 'train' ? curves.map(smoothCurve) : curves);
    if (shown.step.length === 0) return [];
    return [{ label: name, ...shown, color: color(results, name), points: split !== 'train' }];
  });
  return {
    id: `loss-${modality}-${split}`,
    title: `${modality}, ${SPLIT_NAMES[split]} loss`,
    unit: models[0]?.config.diffusion?.modality === modality ? 'squared error of the prediction' : 'nats a token',
    series,
  };
}

/** Mean at the steps that all curves have, from SHOWN_FROM on, at most some hundreds of points. */
function meanCurve(curves: readonly Curve[]): Curve {
  const [first, ...others] = curves;
  if (!first || first.step.length === 0) return { step: [], value: [] };
  const lookups = others.map(({ step, value: values }) => new Map(step.map((s, i) => [s, values[i]!])));
  const last = first.step.at(-1)!;
  const every = Math.max(1, Math.floor(first.step.length / 300));
  const mean: Curve = { step: [], value: [] };
  first.step.forEach((step, i) => {
    if (step < SHOWN_FROM * last || (first.step.length - 1 - i) % every !== 0) return;
    const values = [first.value[i]!, ...lookups.map((lookup) => lookup.get(step))];
    if (values.some((v) => v === undefined)) return;
    mean.step.push(step);
    mean.value.push(Number(((values as number[]).reduce((a, b) => a + b, 0) / values.length).toFixed(5)));
  });
  return mean;
}

/** Pairs of steps of every model with the fitted line, and the line of equal steps. */
function matchChart(results: CompareResults, modality: string, split: CurveSplit): Chart {
  const matches = results.matches.filter(
    (match) => match.modality === modality && match.split === split && match.pairs.baseline.length > 0,
  );
  const last = Math.max(0, ...matches.map(({ pairs }) => pairs.baseline.at(-1)!));
  const series = matches.flatMap(({ model, pairs, measures }): ChartSeries[] => {
    const slope = measures['steps']!.slope.value!;
    const shared = { color: color(results, model) };
    return [
      { label: model, step: pairs.baseline, value: pairs.other, scatter: true, ...shared },
      { label: `${model}: ${fraction(slope)} t`, step: [0, last], value: [0, slope * last], ...shared },
    ];
  });
  if (series.length > 0)
    series.push({ label: 'equal', step: [0, last], value: [0, last], color: '#8a8a8a', dashed: true });
  return {
    id: `match-${modality}-${split}`,
    title: `${modality}, ${SPLIT_NAMES[split]}: steps to the same loss`,
    unit: 'steps of the model',
    x: `steps of ${results.baseline}`,
    series,
  };
}

function modelTable({ models }: CompareResults): string {
  return table(
    models.map((model) => [
      escapeHtml(model.name),
      (model.parameters / 1e6).toFixed(2),
      (model.flops_per_token / 1e6).toFixed(2),
      model.flops_ratio.toFixed(3),
      (1000 * model.seconds_per_step).toFixed(1),
      model.seconds_ratio.toFixed(3),
      model.runs.map(({ seed }) => seed).join(', '),
    ]),
    ['model', 'parameters, M', 'MFLOP a token', 'of the baseline', 'ms a step', 'of the baseline', 'seeds'],
  );
}

function finalTable({ models }: CompareResults, modalities: readonly string[]): string {
  return table(
    models.map(({ name, final }) => [
      escapeHtml(name),
      ...modalities.flatMap((modality) => SPLITS.map((split) => final[split][modality]?.mean.toFixed(4) ?? '–')),
    ]),
    [
      'model',
      ...modalities.flatMap((modality) => SPLITS.map((split) => `${escapeHtml(modality)}, ${SPLIT_NAMES[split]}`)),
    ],
  );
}

function flatTable({ flat }: CompareResults, modalities: readonly string[]): string {
  return table(
    modalities.map((modality) => [
      escapeHtml(modality),
      ...SPLITS.map((split) => {
        const part = flat.find((f) => f.modality === modality && f.split === split);
        return part ? `<td class="${part.flat ? 'good' : 'bad'}">${(100 * part.fall).toFixed(2)} %</td>` : '–';
      }),
    ]),
    ['modality', ...SPLITS.map((split) => SPLIT_NAMES[split])],
  );
}

function method(): string {
  return `<h2>How it is measured</h2>
<p class="note">Losses are smoothed by local linear regression over the logarithm of the step, window t/1.1 to 1.1 t (three points at least), averaged over the seeds of a model, and taken as their monotone envelope. For each step t of the baseline at which its loss is a new low, t' is the first step at which the other model is as low, interpolated. The slope is the least-squares line t' = s t through the origin over all t after warm-up and the first 5 % of the run; the end point is the last pair. Where a model does not reach the baseline's lowest loss, the last pair is at the model's own lowest, and the remark says so.</p>
<p class="note">Over FLOPs and seconds, steps count as what a step of the model costs: active FLOPs forward and backward, and the median time of its steps, without validation and checkpoints. Intervals: 95 % of 400 draws that draw seeds with replacement and put the noise of each curve together again from blocks of a fiftieth of the run, the same blocks for models with the same seed. All runs of a seed see the same batches in the same order.</p>`;
}

function hardware({ machines, data }: CompareResults): string {
  const lines = machines.map(
    (m) =>
      `${m.cpu}, ${m.threads} threads, ${m.instructions}, ${m.memory_gb} GB, ${m.system}, Node ${m.node}, version ${m.package}, ${m.date.slice(0, 10)}`,
  );
  return `<ul class="attribution">${[...lines, `Data set ${data.name}, fingerprint ${data.fingerprint.slice(0, 16)}`].map((line) => `<li>${escapeHtml(line)}</li>`).join('')}</ul>`;
}
