/** Checks that need no second computation: numbers of a golden file that follow from its other numbers. */
import { elements, tensorOf, type GoldenFile, type GoldenTensor } from './golden.js';
import { compare, type Bound, type Comparison } from './judge.js';

/** The file holds float64 results rounded to float32. */
const ROUNDING: Bound = { relative: 5e-7, element: 5e-7 };
/**
 * Ten products with (1 - lr * decay) in float32, each rounded once, and that factor itself rounded.
 */
const TEN_DECAYS: Bound = { relative: 3e-6, element: 3e-6 };

/** Sums and repetitions inside a file: the norm of the gradients, the total loss, the first of the ten steps. */
export function checkConsistency(path: string, file: GoldenFile): Comparison[] {
  const scalar = (name: string): number => tensorOf(path, file, name, [])[0]!;
  const first = (name: string): number => file.tensors.get(name)?.values[0] ?? NaN;
  const zWeight = typeof file.config['z_loss'] === 'number' ? file.config['z_loss'] : 0;
  const row = (name: string, got: number, expected: number): Comparison =>
    compare(name, 'consistency', [got], [expected], ROUNDING);
  const diffusion = file.config['diffusion'] as { weight?: number } | undefined;
  const patches = diffusion?.weight ? diffusion.weight * scalar('out.diffusion_loss') : 0;
  const total = scalar('out.lm_loss') + zWeight * scalar('out.z_loss') + patches;
  const rows = [
    row('first of train.loss = out.loss', first('train.loss'), scalar('out.loss')),
    row('out.loss = its parts', scalar('out.loss'), total),
    row('first of train.grad_norm = norm of g', first('train.grad_norm'), gradientNorm(file)),
  ];
  const parts = modalityLosses(path, file);
  if (parts !== undefined) rows.push(row('out.lm_loss = mean of the modalities', parts, scalar('out.lm_loss')));
  return rows;
}

function gradientNorm(file: GoldenFile): number {
  let sum = 0;
  for (const [name, { values }] of file.tensors)
    if (name.startsWith('g.')) for (const value of values) sum += value * value;
  return Math.sqrt(sum);
}

/** The loss of each modality times its share of the targets. */
function modalityLosses(path: string, file: GoldenFile): number | undefined {
  const modalities = file.config['modalities'];
  const target = file.tensors.get('in.target')?.values;
  const targetModality = file.tensors.get('in.target_modality')?.values;
  if (!Array.isArray(modalities) || !target || !targetModality) return undefined;
  const counts = modalities.map(() => 0);
  target.forEach((token, t) => {
    if (token >= 0) counts[targetModality[t]!]!++;
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  const sum = counts.reduce((all, count, m) => {
    return count === 0 ? all : all + count * tensorOf(path, file, `out.lm_loss.${modalities[m]}`, [])[0]!;
  }, 0);
  return total === 0 ? 0 : sum / total;
}

/**
 * Rows of weights that no token of the batch touches (embeddings of other tokens, towers of absent modalities) only
 * decay, so their values after the ten steps are known to the last digits. Here a wrong number shows that no output
 * depends on.
 */
export function checkRowsWithoutGradient(file: GoldenFile, computed: ReadonlyMap<string, GoldenTensor>): Comparison[] {
  const rows: Comparison[] = [];
  for (const [name, { shape, values: gradient }] of file.tensors) {
    if (!name.startsWith('g.')) continue;
    const after = `after.${name.slice(2)}`;
    const got = computed.get(after)?.values;
    const expected = file.tensors.get(after)?.values;
    const width = shape.length > 1 ? shape.at(-1)! : elements(shape);
    if (!got || !expected || width === 0) continue;
    const pick: number[] = [];
    for (let begin = 0; begin < gradient.length; begin += width)
      if (gradient.subarray(begin, begin + width).every((value) => value === 0))
        for (let i = begin; i < begin + width; i++) pick.push(i);
    if (pick.length === 0) continue;
    const label = `${after}, ${pick.length} elements without gradient`;
    const from = (values: ArrayLike<number>): number[] => pick.map((i) => values[i]!);
    const row = compare(label, 'consistency', from(got), from(expected), TEN_DECAYS);
    if (row.worst) row.worst.index = pick[row.worst.index]!;
    rows.push(row);
  }
  return rows;
}
