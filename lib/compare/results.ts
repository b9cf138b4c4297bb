import type { ModelConfig } from '../config/model_config.js';
import type { Machine } from '../machine.js';
import type { Curve } from '../report/data.js';
import { estimateMatch, type EstimateOptions, type FractionEstimate, type RunCurve } from './bootstrap.js';
import { SPLITS, type CurveSplit, type RunCurves } from './curves.js';
import { PAPER, PAPER_SOURCE, paperSetting, type PaperRow } from './paper.js';
import { smoothCurve } from './smooth.js';

/** Active FLOPs that differ by more than this share are warned of. */
export const FLOPS_TOLERANCE = 0.02;
/** A curve is flat when its last third falls by less than this share. */
export const FLAT = 0.03;
/** Pairs in this first share of the baseline's run are not fitted. */
const IGNORED = 0.05;
/** Step times whose 90th percentile is more than so many times the 10th are warned of. */
const UNSTEADY = 1.5;

/** One model of a comparison with its finished runs. */
export interface ComparedModel {
  name: string;
  config: ModelConfig;
  parameters: number;
  /** FLOPs of a training step for each of its tokens. */
  flopsPerToken: number;
  runs: { seed: number; folder: string; curves: RunCurves }[];
}

/** What results are computed from. */
export interface CompareInput {
  baseline: string;
  models: ComparedModel[];
  warmupSteps: number;
  /** The config of the comparison, plain JSON. */
  config: Record<string, unknown>;
  data: { name: string; fingerprint: string; documents: number };
  machines: Machine[];
  /** Sentences that were found before. */
  warnings: string[];
  /** Draws of the bootstrap. Default 400. */
  draws?: number;
}

/** One model against the baseline, on one loss. */
export interface MatchResult {
  model: string;
  split: CurveSplit;
  modality: string;
  /** `steps`, `flops`, `seconds`: fraction of the baseline's, as fitted slope and as ratio at the end point. */
  measures: Record<string, { slope: FractionEstimate; end: FractionEstimate }>;
  /** Whether the model reached the baseline's lowest loss; if not, slope and end are of the losses that it reached. */
  reached: boolean;
  /** Not reached: at the baseline's lowest loss the fraction of steps is more than this. */
  at_least: number | null;
  /** No pair of steps because the model was better from its first point on: the fraction of steps is at most this. */
  at_most: number | null;
  /** Share of the baseline's run that the pairs cover. */
  covered: number;
  /** Pairs of steps, thinned out. */
  pairs: { baseline: number[]; other: number[] };
}

/** `results.json` of a comparison. */
export interface CompareResults {
  format: 'mot-compare';
  version: 1;
  baseline: string;
  config: Record<string, unknown>;
  data: CompareInput['data'];
  machines: Machine[];
  models: {
    name: string;
    parameters: number;
    flops_per_token: number;
    /** Over the baseline's. */
    flops_ratio: number;
    seconds_per_step: number;
    seconds_ratio: number;
    runs: { seed: number; folder: string; steps: number; tokens_per_step: number; seconds_per_step: number }[];
    /** Mean over the seeds at the last step, and each seed's; training losses smoothed. */
    final: Record<CurveSplit, Record<string, { mean: number; seeds: number[] }>>;
  }[];
  /** How much the baseline's smoothed loss falls in the last third of its run. */
  flat: { split: CurveSplit; modality: string; fall: number; flat: boolean }[];
  matches: MatchResult[];
  paper: { setting: string; source: string; rows: PaperRow[] } | null;
  warnings: string[];
}

/** Computes everything that a comparison says. */
export function compareResults(input: CompareInput): CompareResults {
  const { baseline: name, models } = input;
  const baseline = models.find((model) => model.name === name)!;
  const steps = Math.max(...baseline.runs.map(({ curves }) => curves.steps));
  const options = {
    from: Math.max(input.warmupSteps, IGNORED * steps),
    ...(input.draws === undefined ? {} : { draws: input.draws }),
  };
  const warnings = [...input.warnings];

  const described = models.map((model): CompareResults['models'][number] => {
    const flopsRatio = model.flopsPerToken / baseline.flopsPerToken;
    if (Math.abs(flopsRatio - 1) > FLOPS_TOLERANCE)
      warnings.push(
        `A token of ${model.name} takes ${flopsRatio.toFixed(3)} times the FLOPs of ${name}: compare them over FLOPs, not over steps.`,
      );
    const skipped = model.runs.reduce((sum, { curves }) => sum + curves.skipped, 0);
    if (skipped > 0)
      warnings.push(`${model.name}: ${skipped} steps were not finite, or loss spikes to skip, and changed nothing.`);
    const seconds = meanOf(model.runs.map(({ curves }) => curves.secondsPerStep));
    return {
      name: model.name,
      parameters: model.parameters,
      flops_per_token: model.flopsPerToken,
      flops_ratio: flopsRatio,
      seconds_per_step: seconds,
      seconds_ratio: seconds / meanOf(baseline.runs.map(({ curves }) => curves.secondsPerStep)),
      runs: model.runs.map(({ seed, folder, curves }) => ({
        seed,
        folder,
        steps: curves.steps,
        tokens_per_step: curves.tokensPerStep,
        seconds_per_step: curves.secondsPerStep,
      })),
      final: finalLosses(model),
    };
  });

  const flat = SPLITS.flatMap((split) =>
    modalitiesOf(baseline, split).map((modality) => {
      const falls = curvesOf(baseline, split, modality).map(({ curve }) => lastThirdFall(curve));
      return { split, modality, fall: meanOf(falls), flat: meanOf(falls) < FLAT };
    }),
  );
  const steep = flat.filter((part) => part.split === 'train' && !part.flat);
  if (steep.length > 0)
    warnings.push(
      `The run is too short to compare models by: in its last third the training loss of ${name} still falls by ` +
        `${steep.map(({ modality, fall }) => `${(100 * fall).toFixed(1)} % (${modality})`).join(', ')}; ` +
        `below ${100 * FLAT} % it is flat. Before that all models look alike.`,
    );
  const fewest = Math.min(...models.map(({ runs }) => runs.length));
  if (fewest < 3)
    warnings.push(
      `Intervals rest on ${fewest === 1 ? 'one seed' : `${fewest} seeds`} of ${models
        .filter(({ runs }) => runs.length === fewest)
        .map((model) => model.name)
        .join(', ')}: they hold the noise within runs, but too little of that between seeds.`,
    );

  const unsteady = models.filter(({ runs }) => runs.some(({ curves }) => curves.secondsSpread > UNSTEADY));
  if (unsteady.length > 0)
    warnings.push(
      `Step times wandered by more than ${UNSTEADY} times within runs of ${unsteady.map((model) => model.name).join(', ')}: ` +
        'the machine did other work, so mistrust the fractions of seconds.',
    );

  const matches = models
    .filter((model) => model !== baseline)
    .flatMap((model) =>
      SPLITS.flatMap((split) =>
        modalitiesOf(baseline, split).flatMap((modality) => matchOf(baseline, model, split, modality, options) ?? []),
      ),
    );
  const setting = paperSetting(modalitiesOf(baseline, 'train'), baseline.config.diffusion !== undefined);
  return {
    format: 'mot-compare',
    version: 1,
    baseline: name,
    config: input.config,
    data: input.data,
    machines: input.machines,
    models: described,
    flat,
    matches,
    paper: setting ? { setting, source: PAPER_SOURCE, rows: PAPER.filter((row) => row.setting === setting) } : null,
    warnings,
  };
}

/** Modalities with a loss on a split. */
function modalitiesOf(model: ComparedModel, split: CurveSplit): string[] {
  const withLoss = model.runs.map(({ curves }) => curves.losses[split]);
  return model.config.modalities.filter((m) => withLoss.every((losses) => (losses[m]?.step.length ?? 0) > 0));
}

/** Curves of all seeds, with what a step costs. */
function curvesOf(model: ComparedModel, split: CurveSplit, modality: string): RunCurve[] {
  return model.runs.map(({ seed, curves }) => ({
    seed,
    curve: curves.losses[split][modality] ?? { step: [], value: [] },
    // All steps hold as many tokens, but for what packing leaves over.
    cost: { flops: model.flopsPerToken, seconds: curves.secondsPerStep },
  }));
}

function matchOf(
  baseline: ComparedModel,
  model: ComparedModel,
  split: CurveSplit,
  modality: string,
  options: EstimateOptions,
): MatchResult | undefined {
  const estimate = estimateMatch(curvesOf(baseline, split, modality), curvesOf(model, split, modality), options);
  if (!estimate) return undefined;
  const { matching, measures } = estimate;
  const every = Math.max(1, Math.ceil(matching.baseline.length / 100));
  const kept = (_: number, i: number): boolean => (matching.baseline.length - 1 - i) % every === 0;
  const round = (step: number): number => Number(step.toFixed(1));
  return {
    model: model.name,
    split,
    modality,
    measures,
    reached: matching.reached,
    at_least: matching.atLeast,
    at_most: matching.atMost,
    covered: matching.covered,
    pairs: {
      baseline: matching.baseline.filter(kept).map(round),
      other: matching.other.filter(kept).map(round),
    },
  };
}

function finalLosses(model: ComparedModel): Record<CurveSplit, Record<string, { mean: number; seeds: number[] }>> {
  const of = (split: CurveSplit): Record<string, { mean: number; seeds: number[] }> =>
    Object.fromEntries(
      modalitiesOf(model, split).map((modality) => {
        const seeds = curvesOf(model, split, modality).map(({ curve }) =>
          (split === 'train' ? smoothCurve(curve) : curve).value.at(-1)!,
        );
        return [modality, { mean: meanOf(seeds), seeds }];
      }),
    );
  return { train: of('train'), validation: of('validation'), heldout: of('heldout') };
}

/** Share by which a smoothed curve falls between two thirds of its run and its end. */
export function lastThirdFall(curve: Curve): number {
  const { step, value } = smoothCurve(curve);
  const end = value.at(-1)!;
  const begin = value[step.findIndex((t) => t >= (2 / 3) * step.at(-1)!)]!;
  return begin > 0 ? 1 - end / begin : 0;
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
