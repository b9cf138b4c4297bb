import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { encodePng } from '../media/png.js';
import { encodeWav } from '../media/wav.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import { drawCharts, type Chart, type ChartSeries } from './charts.js';
import type { Curve, ModalityCurves, ReportData, ReportSample } from './data.js';

const COLORS = { train: '#4c78a8', validation: '#e4572e', heldout: '#9467bd', unigram: '#999999', bigram: '#2a9d5c' };

const STYLE = `
:root { --paper: #fbfaf7; --ink: #23211d; --soft: #6d685f; --rule: #e2ded4; --card: #ffffff; --good: #22803f; --bad: #b3401f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17181a; --ink: #e9e6df; --soft: #a09a8e; --rule: #34363a; --card: #1f2124; --good: #62c584; --bad: #f0865f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 80px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 21px; margin: 44px 0 6px; }
p.note { color: var(--soft); margin: 0 0 14px; max-width: 78ch; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 12px 22px; margin: 22px 0; }
dl.facts dt { color: var(--soft); font-size: 13px; } dl.facts dd { margin: 0; font-variant-numeric: tabular-nums; font-weight: 600; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 500; font-size: 14px; } .good { color: var(--good); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); gap: 18px; } .chart { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 8px; min-width: 0; overflow: hidden; }
.u-title { font-size: 15px !important; } .u-legend { font-size: 12px; } .uplot { max-width: 100%; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 16px; }
.sample { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px; min-width: 0; }
.sample h3 { margin: 0 0 10px; font-size: 15px; line-height: 1.35; overflow-wrap: anywhere; } .pictures { display: flex; gap: 12px; } figure { margin: 0; }
figure img { width: 96px; height: 96px; image-rendering: pixelated; border-radius: 6px; display: block; } figcaption { font-size: 12px; color: var(--soft); margin-top: 3px; }
.sample p { margin: 10px 0 0; font-size: 14px; overflow-wrap: anywhere; } .sample p b, .sound span { color: var(--soft); font-weight: 400; font-size: 12px; }
.sound { display: flex; align-items: center; gap: 8px; margin-top: 6px; } .sound span { width: 84px; flex: none; } audio { height: 30px; width: 100%; min-width: 0; }
details { margin-top: 44px; } pre { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px; overflow: auto; font-size: 13px; }
ul.attribution { color: var(--soft); font-size: 14px; padding-left: 18px; } a { color: inherit; }
`;

/** Text into HTML. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** JSON that cannot end the script element it stands in. */
function scriptJson(value: unknown): string {
  return JSON.stringify(value).replace(/</g, '\\u003c');
}

const pictureUrl = (picture: Picture) => `data:image/png;base64,${Buffer.from(encodePng(picture)).toString('base64')}`;
const soundUrl = (sound: Sound) => `data:audio/wav;base64,${Buffer.from(encodeWav(sound)).toString('base64')}`;

function figure(picture: Picture, caption: string): string {
  return `<figure><img src="${pictureUrl(picture)}" alt="${escapeHtml(caption)}"><figcaption>${escapeHtml(caption)}</figcaption></figure>`;
}

function player(sound: Sound | undefined, label: string): string {
  if (!sound || sound.samples.length === 0) return '';
  return `<div class="sound"><span>${label}</span><audio controls preload="metadata" src="${soundUrl(sound)}"></audio></div>`;
}

function sampleCard(sample: ReportSample): string {
  return `<article class="sample"><h3>${escapeHtml(sample.caption)}</h3>
<div class="pictures">${figure(sample.truePicture, 'true')}${figure(sample.tokenPicture, 'true, as tokens')}${figure(sample.picture, 'from its name')}</div>
<p><b>named from its picture:</b> ${escapeHtml(sample.captionFromPicture) || '(nothing)'}</p>
${player(sample.trueSound, 'true')}${player(sample.tokenSound, 'as tokens')}${player(sample.sound, 'from its name')}</article>`;
}

/** Mean over a window of the last steps: what the eye would draw through a noisy curve. */
export function smooth({ step, value }: Curve, window: number): Curve {
  let sum = 0;
  const mean = value.map((v, i) => {
    sum += v - (i >= window ? value[i - window]! : 0);
    return sum / Math.min(i + 1, window);
  });
  return { step, value: mean };
}

function lossChart(curves: ModalityCurves, index: number): Chart {
  const steps = [...curves.train.step, ...curves.validation.step];
  const first = Math.min(...steps);
  const last = Math.max(...steps);
  const window = Math.max(1, Math.round(curves.train.step.length / 50));
  const series: ChartSeries[] = [
    { label: 'training', ...curves.train, color: COLORS.train, faint: true },
    { label: 'training, mean', ...smooth(curves.train, window), color: COLORS.train },
    { label: 'validation', ...curves.validation, color: COLORS.validation, points: true },
  ];
  if (curves.heldout.step.length)
    series.push({ label: 'held-out', ...curves.heldout, color: COLORS.heldout, points: true });
  for (const line of ['unigram', 'bigram'] as const) {
    const value = curves[line];
    if (value !== undefined && Number.isFinite(first))
      series.push({ label: line, step: [first, last], value: [value, value], color: COLORS[line], dashed: true });
  }
  return { id: `loss-${index}`, title: curves.modality, unit: 'nats a token', series };
}

const number = (value: number | undefined) => (value === undefined ? '–' : value.toFixed(3));
const last = (curve: Curve) => curve.value[curve.value.length - 1];

function summaryRow(curves: ModalityCurves): string {
  const validation = last(curves.validation);
  const beaten = validation !== undefined && curves.bigram !== undefined && validation < curves.bigram;
  const verdict =
    validation === undefined || curves.bigram === undefined
      ? ''
      : beaten
        ? '<td class="good">under the bigram</td>'
        : '<td class="bad">over the bigram</td>';
  const cells = [validation, curves.unigram, curves.bigram, last(curves.heldout), curves.heldoutBigram];
  return `<tr><td>${escapeHtml(curves.modality)}</td>${cells.map((cell) => `<td>${number(cell)}</td>`).join('')}${verdict}</tr>`;
}

/** One self-contained page: no script, style, picture or sound comes from anywhere else. */
export function renderReport(data: ReportData): string {
  const require = createRequire(import.meta.url);
  const uplot = path.dirname(require.resolve('uplot'));
  const uplotScript = readFileSync(path.join(uplot, 'uPlot.iife.min.js'), 'utf8');
  const uplotStyle = readFileSync(path.join(uplot, 'uPlot.min.css'), 'utf8');
  const charts = data.curves.map(lossChart);
  const window = Math.max(1, Math.round(data.throughput.step.length / 50));
  charts.push({
    id: 'throughput',
    title: 'throughput',
    unit: 'tokens a second',
    series: [
      { label: 'each step', ...data.throughput, color: COLORS.train, faint: true },
      { label: 'mean', ...smooth(data.throughput, window), color: COLORS.train },
    ],
  });
  const group = (known: boolean, title: string, note: string) => {
    const samples = data.samples.filter((sample) => sample.known === known);
    if (samples.length === 0) return '';
    return `<h2>${title}</h2><p class="note">${note}</p><div class="samples">${samples.map(sampleCard).join('\n')}</div>`;
  };
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(data.title)}</title><style>${uplotStyle}${STYLE}</style></head><body><main>
<h1>${escapeHtml(data.title)}</h1>
<dl class="facts">${data.facts.map(([label, value]) => `<div><dt>${escapeHtml(label)}</dt><dd>${escapeHtml(value)}</dd></div>`).join('')}</dl>
<h2>Losses at the end</h2>
<p class="note">Cross-entropy in nats a token, by the modality of the token predicted. Validation: new scenes of concepts that training saw. Held-out: concepts it never saw. The n-gram models were fitted on the training tokens, their smoothing tuned.</p>
<table><tr><th>modality</th><th>validation</th><th>unigram</th><th>bigram</th><th>held-out</th><th>held-out bigram</th><th></th></tr>${data.curves.map(summaryRow).join('')}</table>
<h2>Over the run</h2><div class="charts">${charts.map((chart) => `<div class="chart" id="${chart.id}"></div>`).join('')}</div>
${group(false, 'Held-out concepts', 'Concepts that training never saw: the true picture, the picture drawn from the name, the name given to the picture; speech true and generated.')}
${group(true, 'Known concepts, new scenes', 'The same for concepts that training saw, in scenes that it did not.')}
<h2>Sources</h2><ul class="attribution">${data.attribution
    .map(
      (a) =>
        `<li>${escapeHtml(a.what)}: ${escapeHtml(a.by)}, ${escapeHtml(a.licence)}, <a href="${escapeHtml(a.url)}">${escapeHtml(a.url)}</a></li>`,
    )
    .join('')}</ul>
<details><summary>Config of the run</summary><pre>${escapeHtml(data.config)}</pre></details>
</main><script>${uplotScript}</script><script>(${drawCharts.toString()})(${scriptJson(charts)}, uPlot)</script></body></html>
`;
}
