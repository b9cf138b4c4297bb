import type { BenchCase, BenchResult } from './types.js';

const NAME_WIDTH = 43;

/** A suite for people: limits, one line a case, worst and mean share; at most 100 columns. */
export function benchTable({ suite, machine, limits, summary, cases }: BenchResult): string {
  const threads = Math.max(...cases.map((one) => one.threads));
  const lines = [
    `${suite} on ${machine.cpu}, ${machine.instructions}, ${threads} thread${threads === 1 ? '' : 's'}`,
    `limits: f32 ${limits.f32_gflops.toFixed(0)} GFLOP/s, bf16 ${limits.bf16_gflops.toFixed(0)} GFLOP/s, ` +
      `read ${limits.read_gbps.toFixed(1)} GB/s, copy ${limits.copy_gbps.toFixed(1)} GB/s`,
    '',
    [
      'case'.padEnd(NAME_WIDTH),
      'type',
      'median ms'.padStart(9),
      'p10-p90'.padStart(13),
      'speed'.padStart(13),
      'limit'.padStart(5),
      'ratio'.padStart(6),
    ].join(' '),
  ];
  for (const one of cases) {
    const [name, ...rest] = wrap(one.name);
    lines.push(
      [
        name!.padEnd(NAME_WIDTH),
        one.dtype.padEnd(4),
        number(one.median_ms).padStart(9),
        `${number(one.p10_ms)}-${number(one.p90_ms)}`.padStart(13),
        speed(one).padStart(13),
        percent(one.share_of_limit).padStart(5),
        (one.ratio_to_dense ?? one.ratio_to_gemm ?? one.ratio_to_nan ?? one.ratio_to_keeping)?.toFixed(3).padStart(6) ??
          '',
      ]
        .join(' ')
        .trimEnd(),
      ...rest.map((part) => `  ${part}`),
      ...notes(one).map((note) => `  ${note}`),
    );
  }
  if (summary)
    lines.push(
      '',
      `share of the limit: worst ${percent(summary.worst_share)} (${summary.worst_case}), mean ${percent(summary.mean_share)}`,
    );
  return lines.join('\n');
}

function notes(one: BenchCase): string[] {
  const found: string[] = [];
  if (one.tokens_per_s !== undefined && speed(one).includes('/s') && (one.gflops ?? one.gbps) !== undefined)
    found.push(`${Math.round(one.tokens_per_s).toLocaleString('en')} tokens/s`);
  if (one.peak_rss_mb !== undefined)
    found.push(`peak ${one.peak_rss_mb.toFixed(0)} MB, of which planned ${one.plan_mb?.toFixed(0) ?? '-'} MB`);
  else if (one.plan_mb !== undefined) found.push(`planned ${one.plan_mb.toFixed(0)} MB`);
  if (one.share_of_step !== undefined) found.push(`${percent(one.share_of_step)} of a step at the peak`);
  for (const [peer, ms] of Object.entries(one.peers ?? {}))
    found.push(`${peer} ${number(ms)} ms: ${(ms / one.median_ms).toFixed(2)} x ours`);
  for (const [peer, reason] of Object.entries(one.peers_missing ?? {})) found.push(`${peer} is missing: ${reason}`);
  return found.length > 2
    ? [found.slice(0, 2).join(', '), ...found.slice(2)]
    : found.length > 0
      ? [found.join(', ')]
      : [];
}

function speed({ gflops, gbps, tokens_per_s, ns_per_call }: BenchCase): string {
  if (gflops !== undefined) return `${gflops.toFixed(0)} GFLOP/s`;
  if (gbps !== undefined) return `${gbps.toFixed(gbps < 10 ? 2 : 1)} GB/s`;
  if (ns_per_call !== undefined) return `${number(ns_per_call)} ns`;
  return tokens_per_s === undefined ? '' : `${(tokens_per_s / 1e6).toFixed(1)} Mtokens/s`;
}

function percent(share: number | undefined): string {
  return share === undefined ? '' : `${(100 * share).toFixed(share < 0.01 ? 2 : 0)}%`;
}

/** Three digits. */
function number(value: number): string {
  return value.toFixed(value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0);
}

/** Lines of a name; all but the first are indented by two. */
function wrap(name: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of name.split(' ')) {
    const width = lines.length === 0 ? NAME_WIDTH : NAME_WIDTH - 2;
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line += (line === '' ? '' : ' ') + word;
  }
  return [...lines, line];
}
