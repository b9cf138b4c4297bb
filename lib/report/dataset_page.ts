import type { DatasetManifest } from '../data/dataset.js';
import type { DocumentSample, SplitInspection } from '../data/inspect.js';
import type { Segment } from '../modalities/registry.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import { figure, player } from './html.js';
import { escapeHtml, factList, renderPage } from './page.js';

/** Characters of a text that are shown. */
const MOST_TEXT = 2000;

/** A page about a prepared data set: figures, and documents decoded, with pictures and sounds. */
export function renderDatasetPage(
  folder: string,
  manifest: DatasetManifest,
  splits: readonly SplitInspection[],
): string {
  const { vocabulary } = manifest;
  const facts: [string, string][] = [
    ['name', manifest.name],
    ['vocabulary', vocabulary.size.toLocaleString('en')],
    ['modalities', vocabulary.modalities.join(', ')],
    ['documents', splits.reduce((sum, { documents }) => sum + documents, 0).toLocaleString('en')],
    ['tokens', splits.reduce((sum, { tokens }) => sum + tokens, 0).toLocaleString('en')],
    ['longest document', `${manifest.longestDocument} tokens`],
    ...(manifest.sources ?? []).map((source, i): [string, string] => [
      `source ${i + 1}: ${source.kind}`,
      `${source.items.toLocaleString('en')} items, ${source.skipped.toLocaleString('en')} skipped`,
    ]),
  ];
  const title = `Data set ${folder}`;
  const body = `<h1>${escapeHtml(title)}</h1>${factList(facts)}
<p class="note">Documents are shown as a model sees them: through tokens and back.</p>
${splits.map((split) => splitSection(split, vocabulary.modalities)).join('\n')}`;
  return renderPage(title, body, []);
}

function splitSection(split: SplitInspection, modalities: readonly string[]): string {
  const { lengths } = split;
  const name = split.shard === undefined ? split.split : `${split.split}, ${split.shard}`;
  const some = split.counted < split.documents ? ` Counted on ${split.counted.toLocaleString('en')} of them.` : '';
  const rows = modalities.map((modality) => {
    const { share, spans } = split.modalities[modality]!;
    return `<tr><td>${escapeHtml(modality)}</td><td>${(100 * share).toFixed(1)} %</td><td>${spans.toFixed(2)}</td></tr>`;
  });
  return `<h2>${escapeHtml(name)}</h2>
<p class="note">${split.documents.toLocaleString('en')} documents, ${split.tokens.toLocaleString('en')} tokens; ${lengths.shortest} to ${lengths.longest} tokens each, median ${lengths.median}, mean ${lengths.mean.toFixed(1)}, 95 % up to ${lengths.p95}.${some}</p>
<table><tr><th>modality</th><th>share of tokens</th><th>spans a document</th></tr>${rows.join('')}</table><p></p>
<div class="samples">${split.samples.map(sampleCard).join('\n')}</div>`;
}

function sampleCard({ index, tokens, segments }: DocumentSample): string {
  return `<article class="sample"><h3>document ${index}, ${tokens} tokens</h3>${segments.map(segmentHtml).join('\n')}</article>`;
}

/** One segment of a document: a picture, a player, or text. */
export function segmentHtml(segment: Segment): string {
  if ('image' in segment) return `<div class="pictures">${figure(segment.image as Picture, 'image')}</div>`;
  if ('speech' in segment) return player(segment.speech as Sound, 'speech');
  const [modality, value] = Object.entries(segment)[0] as [string, unknown];
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const shown = text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)} …` : text;
  return `<p><b>${escapeHtml(modality)}</b> ${escapeHtml(shown)}</p>`;
}
