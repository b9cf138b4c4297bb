import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { parseModelConfig, type ModelConfig } from '../config/model_config.js';
import { MotError } from '../errors.js';
import { writeFileAtomic } from '../io/files.js';
import { Model } from '../model/model.js';
import { readMetrics } from '../train/metrics.js';
import { modelOptions } from '../train/run.js';
import { CONFIG_FILE, METRICS_FILE } from '../train/run_folder.js';
import { parseComparison, type ComparisonPlan, type PlannedRun } from './config.js';
import { runCurves, type RunCurves } from './curves.js';
import { PAGE_FILE, readState, RESULTS_FILE, type ComparisonState } from './folder.js';
import { renderComparison } from './html.js';
import { compareResults, type ComparedModel, type CompareResults } from './results.js';
import { trainingFlops } from './run.js';

/**
 * Writes OUT/results.json and OUT/compare.html from the finished runs of a comparison; runs that are missing are named in
 * both.
 *
 * @returns The path of the page, and what results.json holds.
 * @throws MotError ERR_FILE_OPEN when OUT holds no comparison, ERR_DATA when the baseline or all others have no finished
 *   run, ERR_FILE_WRITE.
 */
export function writeComparisonReport(out: string): { page: string; results: CompareResults } {
  const state = readState(out);
  if (!state)
    throw new MotError('ERR_FILE_OPEN', `${out} holds no comparison; mot compare CONFIG out=${out} makes one.`);
  const comparison = parseComparison({ value: { ...state.config, out }, where: () => '' }, out);
  const { models, missing } = finishedModels(comparison, state);
  const names = models.map(({ name }) => name);
  if (!names.includes(comparison.baseline) || names.length < 2)
    throw new MotError(
      'ERR_DATA',
      `${out} has no finished runs to compare (of ${names.join(', ') || 'no model'} only); run mot compare until ${comparison.baseline} and another model are trained.`,
    );
  const results = compareResults({
    baseline: comparison.baseline,
    models,
    warmupSteps: comparison.runs[0]!.config.train.warmup_steps,
    config: state.config,
    data: state.data,
    machines: state.machines,
    warnings: warningsOf(comparison, state, models, missing),
  });
  writeFileAtomic(join(out, RESULTS_FILE), `${JSON.stringify(results, null, 1)}\n`);
  const page = join(out, PAGE_FILE);
  writeFileAtomic(page, renderComparison(results, models));
  return { page, results };
}

/** Models with their finished runs; models without any are left out. */
function finishedModels(
  comparison: ComparisonPlan,
  { data }: ComparisonState,
): { models: ComparedModel[]; missing: PlannedRun[] } {
  const missing: PlannedRun[] = [];
  const models = comparison.models.flatMap((name): ComparedModel[] => {
    const planned = comparison.runs.filter(({ model }) => model === name);
    const runs = planned.flatMap((run) => {
      const curves = finishedRun(run);
      if (!curves) missing.push(run);
      return curves ? [{ seed: run.seed, folder: `${run.model}-seed${run.seed}`, curves }] : [];
    });
    if (runs.length === 0) return [];
    const { config } = planned.find(({ seed }) => seed === runs[0]!.seed)!;
    const model = modelOf(config.out);
    return [
      {
        name,
        config: model,
        parameters: Model.describe(model, modelOptions(config)).parameters,
        flopsPerToken: trainingFlops(model, config.train, data.tokens / data.documents),
        runs,
      },
    ];
  });
  return { models, missing };
}

/** The model of a run folder. */
function modelOf(run: string): ModelConfig {
  const resolved = parse(readFileSync(join(run, CONFIG_FILE), 'utf8')) as { model: unknown };
  return parseModelConfig(resolved.model, { what: `model of ${run}` });
}

function finishedRun({ config }: PlannedRun): RunCurves | undefined {
  const metrics = join(config.out, METRICS_FILE);
  if (!existsSync(metrics)) return undefined;
  const curves = runCurves(readMetrics(metrics), modelOf(config.out).diffusion?.modality);
  return curves.steps >= config.train.steps ? curves : undefined;
}

function warningsOf(
  comparison: ComparisonPlan,
  { machines }: ComparisonState,
  models: readonly ComparedModel[],
  missing: readonly PlannedRun[],
): string[] {
  const warnings: string[] = [];
  if (missing.length > 0)
    warnings.push(
      `Not finished and left out: ${missing.map(({ model, seed }) => `${model} seed ${seed}`).join(', ')}.`,
    );
  if (comparison.allowRepeats)
    warnings.push('Documents may have come more than once (allow_repeats): memory may have decided.');
  if (machines.length > 1)
    warnings.push('The runs were trained on more than one machine or version: do not compare their seconds.');
  const experts = models
    .filter(({ config }) => Object.values(config.experts ?? {}).some(({ routing }) => routing === 'expert_choice'))
    .map(({ name }) => name);
  if (experts.length > 0)
    warnings.push(
      `${experts.join(', ')}: expert choice looks ahead within a batch, in training and in evaluation. Judge it by its losses only; it cannot generate.`,
    );
  return warnings;
}
