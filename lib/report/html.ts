import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SamplePiece } from '../train/samples.js';
import { encodePng } from '../media/png.js';
import { encodeWav } from '../media/wav.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import type { Chart, ChartSeries } from './charts.js';
import type { Curve, ModalityCurves, ReportData, ReportSample } from './data.js';
import { escapeHtml, factList, renderPage } from './page.js';

const COLORS = { train: '#4c78a8', validation: '#e4572e', heldout: '#9467bd', unigram: '#999999', bigram: '#2a9d5c' };

const pictureUrl = (picture: Picture) => `data:image/png;base64,${Buffer.from(encodePng(picture)).toString('base64')}`;
const soundUrl = (sound: Sound) => `data:audio/wav;base64,${Buffer.from(encodeWav(sound)).toString('base64')}`;

/** A picture and what is under it. */
export function figure(picture: Picture, caption: string): string {
  return `<figure><img src="${pictureUrl(picture)}" alt="${escapeHtml(caption)}"><figcaption>${escapeHtml(caption)}</figcaption></figure>`;
}

/** A player for a sound; nothing where there is none. */
export function player(sound: Sound | undefined, label: string): string {
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

const points = ({ step, value }: Curve): Curve => ({ step, value });

/** A curve with its mean. */
export function trendChart(id: string, title: string, unit: string, curve: Curve): Chart {
  const window = Math.max(1, Math.round(curve.step.length / 50));
  return {
    id,
    title,
    unit,
    series: [
      { label: 'each step', ...points(curve), color: COLORS.train, faint: true },
      { label: 'mean', ...smooth(curve, window), color: COLORS.train },
    ],
  };
}

/** Losses of a modality on training and validation data, with the lines to beat. */
export function lossChart(curves: ModalityCurves, index: number): Chart {
  const steps = [...curves.train.step, ...curves.validation.step];
  const first = Math.min(...steps);
  const last = Math.max(...steps);
  const window = Math.max(1, Math.round(curves.train.step.length / 50));
  const series: ChartSeries[] = [
    { label: 'training', ...points(curves.train), color: COLORS.train, faint: true },
    { label: 'training, mean', ...smooth(curves.train, window), color: COLORS.train },
    { label: 'validation', ...points(curves.validation), color: COLORS.validation, points: true },
  ];
  if (curves.heldout.step.length)
    series.push({ label: 'held-out', ...points(curves.heldout), color: COLORS.heldout, points: true });
  for (const line of ['unigram', 'bigram'] as const) {
    const value = curves[line];
    if (value !== undefined && Number.isFinite(first))
      series.push({ label: line, step: [first, last], value: [value, value], color: COLORS[line], dashed: true });
  }
  return { id: `loss-${index}`, title: curves.modality, unit: curves.unit, series };
}

/** A piece of a sample, its picture or sound inside the page. */
function samplePiece(label: string, piece: SamplePiece, folder: string): string {
  if (!('file' in piece)) return `<p><b>${label}</b> ${escapeHtml(piece.text) || '(nothing)'}</p>`;
  const bytes = readFileSync(join(folder, piece.file)).toString('base64');
  if (piece.file.endsWith('.png'))
    return `<figure><img src="data:image/png;base64,${bytes}" alt="${label}"><figcaption>${label}</figcaption></figure>`;
  return `<div class="sound"><span>${label}</span><audio controls preload="metadata" src="data:audio/wav;base64,${bytes}"></audio></div>`;
}

/** What was generated from the same prompts at some steps of the training, side by side. */
function trainingSamples({ trainingSamples: steps }: ReportData): string {
  const newest = steps.at(-1);
  if (!newest) return '';
  const cards = newest.list.map(({ prompt, generated, truth }, i) => {
    const over = steps.flatMap(({ step, folder, list }) => {
      const of = list[i];
      return of ? [samplePiece(`step ${step}`, of.generated, folder)] : [];
    });
    const given = prompt.map((piece) => samplePiece(`given: ${escapeHtml(piece.modality)}`, piece, newest.folder));
    const inRow = 'file' in generated && generated.file.endsWith('.png');
    const pieces = [...over, samplePiece('true', truth, newest.folder)].join('');
    return `<article class="sample">${given.join('')}${inRow ? `<div class="pictures">${pieces}</div>` : pieces}</article>`;
  });
  return `<h2>While it trained</h2><p class="note">What the model made of the same beginnings of documents that it did not train on.</p><div class="samples">${cards.join('\n')}</div>`;
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
  const charts = data.curves.map(lossChart);
  charts.push(trendChart('throughput', 'throughput', 'tokens a second', data.throughput));
  const group = (known: boolean, title: string, note: string) => {
    const samples = data.samples.filter((sample) => sample.known === known);
    if (samples.length === 0) return '';
    return `<h2>${title}</h2><p class="note">${note}</p><div class="samples">${samples.map(sampleCard).join('\n')}</div>`;
  };
  const body = `<h1>${escapeHtml(data.title)}</h1>
${factList(data.facts)}
<h2>Losses at the end</h2>
<p class="note">Cross-entropy in nats a token, by the modality of the token predicted; of pictures as continuous patches, the mean squared error of the prediction. Validation: documents that training did not see; of the embedded data, new scenes of concepts that it saw. Held-out: of the embedded data, concepts that it never saw. The n-gram models were fitted on the training tokens, their smoothing tuned.</p>
<table><tr><th>modality</th><th>validation</th><th>unigram</th><th>bigram</th><th>held-out</th><th>held-out bigram</th><th></th></tr>${data.curves.map(summaryRow).join('')}</table>
<h2>Over the run</h2><div class="charts">${charts.map((chart) => `<div class="chart" id="${chart.id}"></div>`).join('')}</div>
${trainingSamples(data)}
${group(false, 'Held-out concepts', 'Concepts that training never saw: the true picture, the picture drawn from the name, the name given to the picture; speech true and generated.')}
${group(true, 'Known concepts, new scenes', 'The same for concepts that training saw, in scenes that it did not.')}
<h2>Sources</h2><ul class="attribution">${data.attribution
    .map(
      (a) =>
        `<li>${escapeHtml(a.what)}: ${escapeHtml(a.by)}, ${escapeHtml(a.licence)}, <a href="${escapeHtml(a.url)}">${escapeHtml(a.url)}</a></li>`,
    )
    .join('')}</ul>
<details><summary>Config of the run</summary><pre>${escapeHtml(data.config)}</pre></details>`;
  return renderPage(data.title, body, charts);
}
