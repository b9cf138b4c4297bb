import type { FractionEstimate } from './bootstrap.js';
import type { CompareResults, MatchResult } from './results.js';

/** `.345`, `1.20`: as the paper writes fractions. */
export function fraction(value: number): string {
  return value.toFixed(3).replace(/^0/, '');
}

/** `.345 [.310, .380]`; `∞` is an interval without an upper end. */
export function estimateText({ value, low, high }: FractionEstimate): string {
  if (value === null) return '–';
  if (low === null) return fraction(value);
  return `${fraction(value)} [${fraction(low)}, ${high === null ? '∞' : fraction(high)}]`;
}

/** What the numbers alone do not say; empty when the model reached all that the baseline reached. */
export function matchRemark({ reached, at_least, at_most, covered }: MatchResult): string {
  if (at_most !== null) return `better from its first point on: less than ${fraction(at_most)}`;
  const share = `${Math.round(100 * covered)} %`;
  if (reached) return covered > 0 && covered < 0.9 ? `baseline's lowest loss is at ${share} of its run` : '';
  if (covered === 0) return `never as good: more than ${fraction(at_least!)}`;
  return `baseline's lowest loss not reached (there: more than ${fraction(at_least!)}); pairs up to ${share} of its run`;
}

/** The results as lines for a terminal: fractions of the baseline's steps, slopes. */
export function resultText(results: CompareResults): string {
  const lines = [`Fraction of the steps of ${results.baseline} (slope, 95 % interval; at the end point):`];
  for (const match of results.matches) {
    const { slope, end } = match.measures['steps']!;
    const remark = matchRemark(match);
    lines.push(
      `  ${match.model}  ${match.modality}  ${match.split}: ${estimateText(slope)}; ${estimateText(end)}${remark === '' ? '' : `  (${remark})`}`,
    );
  }
  for (const warning of results.warnings) lines.push(`warning: ${warning}`);
  return lines.join('\n');
}
