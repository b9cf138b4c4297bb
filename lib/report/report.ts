import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { looksAhead } from '../config/model_config.js';
import { openRun } from '../generate/open_run.js';
import { writeFileAtomic } from '../io/files.js';
import { isStep, readMetrics, type MetricsLine, type SamplesMetrics } from '../train/metrics.js';
import { readSamples, samplesFolder } from '../train/samples.js';
import { anomalyFacts, countAnomaly, type AnomalyCounts } from './anomalies.js';
import { lossCurves, throughputCurve } from './curves.js';
import type { ReportData } from './data.js';
import { renderReport } from './html.js';
import { makeSamples, sampleSlots } from './samples.js';

/** Steps whose samples are shown. */
const SAMPLED_STEPS = 4;

export interface ReportOptions {
  /** Held-out concepts shown. Default 12. */
  heldout?: number;
  /** Known concepts shown. Default 6. */
  known?: number;
  /** Seed of what is generated. Default 0. */
  seed?: number;
  /** Threads; 0: all. Default 0. */
  threads?: number;
  signal?: AbortSignal;
}

function isSamples(line: MetricsLine): line is SamplesMetrics {
  return !isStep(line) && line.event === 'samples';
}

/** At most `count` of a list, evenly, the last among them. */
function spread<T>(list: readonly T[], count: number): T[] {
  const taken = Math.min(count, list.length);
  return Array.from({ length: taken }, (_, i) => list[Math.ceil(((i + 1) * list.length) / taken) - 1]!);
}

/**
 * Writes `report.html` into a run's folder: loss curves beside the n-gram lines, throughput, and what the model draws,
 * names and says (nothing of a model with expert choice, which cannot generate). One file that needs no network.
 *
 * @returns The path of the report.
 * @throws MotError ERR_FILE_OPEN when the folder holds no run or its data set is gone, ERR_FILE_WRITE.
 */
export async function writeReport(run: string, options: ReportOptions = {}): Promise<string> {
  const { heldout = 12, known = 6, seed = 0, threads = 0, signal } = options;
  const lines = readMetrics(path.join(run, 'metrics.jsonl'));
  await using opened = await openRun(run, { threads, slots: sampleSlots });
  const { model, manifest, checkpoint } = opened;
  const blind = looksAhead(model.config);
  const samples = blind ? [] : await makeSamples(opened, { heldout, known, seed, ...(signal ? { signal } : {}) });
  const steps = lines.filter(isStep);
  const anomalies: AnomalyCounts = { spikes: 0, skipped: 0 };
  for (const line of lines) if (!isStep(line) && line.event === 'anomaly') countAnomaly(anomalies, line);
  const last = steps[steps.length - 1];
  const tokens = steps.reduce((sum, step) => sum + step.tokens, 0);
  const parameters = model.tensors().reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0);
  const configFile = path.join(run, 'config.yaml');
  const data: ReportData = {
    title: `Mixture-of-Transformers: ${path.basename(path.resolve(run))}`,
    facts: [
      ['modalities', model.config.modalities.join(', ')],
      ['parameters', `${(parameters / 1e6).toFixed(2)} M`],
      ['steps', String(checkpoint.state.step)],
      ['tokens trained on', `${(tokens / 1e6).toFixed(2)} M`],
      ['training time', `${((last?.elapsed ?? 0) / 60).toFixed(1)} min`],
      ...anomalyFacts(anomalies),
      ['data set', `${manifest.name}, ${manifest.splits.train.documents.toLocaleString('en')} documents`],
      ['vocabulary', manifest.vocabulary.size.toLocaleString('en')],
      ...(blind
        ? [['samples', 'none: with expert choice the model looks ahead and cannot generate'] as [string, string]]
        : []),
      ['peak memory', `${Math.max(0, ...steps.map((step) => step.memory)).toFixed(0)} MB`],
    ],
    curves: lossCurves(
      lines,
      manifest.vocabulary.modalities,
      manifest.baselines,
      Object.keys(manifest.vocabulary.continuous ?? {}),
    ),
    throughput: throughputCurve(lines),
    samples,
    trainingSamples: spread(lines.filter(isSamples), SAMPLED_STEPS).flatMap(({ step }) => {
      const list = readSamples(run, step);
      return list ? [{ step, folder: path.join(run, samplesFolder(step)), list }] : [];
    }),
    attribution: manifest.attribution,
    config: existsSync(configFile) ? readFileSync(configFile, 'utf8') : '',
  };
  const out = path.join(run, 'report.html');
  writeFileAtomic(out, renderReport(data));
  return out;
}
