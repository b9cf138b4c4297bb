import type { Command } from 'commander';
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { MotError } from '../errors.js';
import type { EvaluatedSplit, RunEvaluation, SplitEvaluation } from '../evaluate/evaluate_run.js';
import type { Estimate } from '../evaluate/metrics.js';
import type { WeightKind } from '../model/model.js';
import { oneOf, printJson, seedOption, table, threadsOption, weightsOption, wholeNumber } from './common.js';

interface EvalFlags {
  checkpoint?: number;
  split: EvaluatedSplit | 'both';
  samples: number;
  documents?: number;
  seed: number;
  threads: number;
  approximateRouting?: boolean;
  weights?: WeightKind;
  out?: string;
  json?: boolean;
}

const SPLITS = ['validation', 'heldout', 'both'] as const;

/** Adds `mot eval`. */
export function registerEval(program: Command): void {
  program
    .command('eval')
    .description('measure a trained model: losses, and the pictures, captions and speech that it generates')
    .argument('<run>', 'folder of a run (its newest checkpoint), or a checkpoint')
    .option('--checkpoint <step>', 'the checkpoint of this step of the run', wholeNumber('--checkpoint', 0))
    .option('--split <name>', 'validation (known concepts), heldout or both', oneOf('--split', SPLITS), 'both')
    .option(
      '--samples <n>',
      'scenes of a split for which it generates; 0: losses only',
      wholeNumber('--samples', 0),
      200,
    )
    .option(
      '--documents <n>',
      'documents of a split whose losses are taken; default: all',
      wholeNumber('--documents', 1),
    )
    .option(
      '--approximate-routing',
      'let a model with expert choice generate, by token choice; its losses stay as they are',
    )
    .addOption(weightsOption())
    .addOption(seedOption())
    .addOption(threadsOption())
    .option('--out <file>', 'also write the result as JSON')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Scenes show one emoji. Retrieval: a picture is drawn from a caption; is the nearest picture, by pixels, among all concepts
in all styles on the same background one of the caption's concept? Captions (from pictures, greedy) and speech (from
captions) are judged by the nearest phrasing or voice. In brackets: 95 % confidence.

Examples:
  mot eval runs/start
  mot eval runs/start --checkpoint 400 --split heldout --samples 300 --out heldout.json
`,
    )
    .action(async (run: string, flags: EvalFlags) => {
      const result = await evaluate(run, flags);
      if (flags.json) printJson(result);
      else process.stdout.write(`${describe(result)}\n`);
    });
}

async function evaluate(run: string, flags: EvalFlags): Promise<RunEvaluation> {
  const { EVALUATED_SPLITS, evaluateRun } = await import('../evaluate/evaluate_run.js');
  const { consolePreparation } = await import('../data/prepare_progress.js');
  const { checkpoint, split, samples, documents, seed, threads, out } = flags;
  // Told now, not after minutes of generating.
  if (out !== undefined) expectFolder(dirname(resolve(out)));
  const progress = consolePreparation();
  try {
    const result = await evaluateRun(run, {
      splits: split === 'both' ? EVALUATED_SPLITS : [split],
      samples,
      approximateRouting: flags.approximateRouting ?? false,
      seed,
      threads,
      progress,
      ...(checkpoint === undefined ? {} : { step: checkpoint }),
      ...(documents === undefined ? {} : { documents }),
      ...(flags.weights === undefined ? {} : { weights: flags.weights }),
    });
    if (out !== undefined) {
      const { writeFileAtomic } = await import('../io/files.js');
      writeFileAtomic(out, `${JSON.stringify(result, null, 2)}\n`);
    }
    return result;
  } finally {
    progress.stop();
  }
}

function expectFolder(folder: string): void {
  if (existsSync(folder)) return;
  throw new MotError('ERR_FILE_WRITE', `--out: there is no folder ${folder}; make it, or choose another file.`);
}

function describe({ checkpoint, weights, ownData, splits, skipped }: RunEvaluation): string {
  const parts = Object.entries(splits).map(
    ([split, evaluation]) => `${title(split, ownData)}\n${splitTable(evaluation)}`,
  );
  const missing = skipped.map(({ metric, reason }) => `not measured: ${metric}: ${reason}`);
  const what = weights === 'ema' ? `${checkpoint}, averaged weights` : checkpoint;
  return [what, ...parts, ...(missing.length > 0 ? [missing.join('\n')] : [])].join('\n\n');
}

function title(split: string, ownData: boolean): string {
  if (ownData) return split === 'heldout' ? 'Held-out documents' : 'Validation documents';
  return split === 'heldout' ? 'Held-out concepts' : 'Known concepts, new scenes';
}

function splitTable({ documents, losses, retrieval, captions, speech, ...more }: SplitEvaluation): string {
  const rows: string[][] = Object.entries(losses).map(([modality, { loss, perplexity }]) => [
    `  ${modality} loss`,
    loss.toFixed(3),
    `perplexity ${perplexity.toPrecision(4)}, ${documents} documents`,
  ]);
  const { diffusionLoss, diffusionLossWithoutCaption } = more;
  if (diffusionLoss !== undefined)
    rows.push(['  diffusion loss', diffusionLoss.toFixed(3), 'squared error of the prediction, by picture']);
  if (diffusionLossWithoutCaption !== undefined)
    rows.push([
      '  the same, no captions',
      diffusionLossWithoutCaption.toFixed(3),
      'what stands before a picture left out',
    ]);
  const rate = (label: string, estimate: Estimate, more = ''): void => {
    rows.push([`  ${label}`, percent(estimate.value), interval(estimate) + more]);
  };
  if (retrieval) {
    for (const [k, of] of [
      ['top1', 'concept of the picture, top 1'],
      ['top5', 'concept of the picture, top 5'],
    ] as const)
      rate(
        of,
        retrieval[k],
        `; chance ${percent(retrieval.chance[k])}, through tokens ${percent(retrieval.ceiling[k].value)}`,
      );
  }
  if (captions) {
    rate('caption, exact match', captions.exact);
    rate('caption, concept right', captions.concept);
    rate('caption, edit distance', captions.editDistance);
  }
  if (speech) rate('speech, unit error rate', speech.unitErrorRate);
  return table(rows);
}

function percent(value: number): string {
  return `${(100 * value).toFixed(1)} %`;
}

function interval({ low, high, count }: Estimate): string {
  return `[${(100 * low).toFixed(1)}, ${(100 * high).toFixed(1)}] of ${count}`;
}
