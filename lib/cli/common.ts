import { Option } from 'commander';
import { MotError } from '../errors.js';

/**
 * Runs what a command does. A MotError is told in one sentence with its code; exit code 2 for bad usage, 1 for
 * anything else. With MOT_DEBUG=1 the stack follows.
 */
export async function act(action: () => Promise<void> | void): Promise<void> {
  try {
    await action();
  } catch (error) {
    const code = error instanceof MotError ? error.code : 'ERR_INTERNAL';
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`mot: ${message} [${code}]\n`);
    if (code === 'ERR_INTERNAL')
      process.stderr.write('This is a defect of mot; run again with MOT_DEBUG=1 for where it happened.\n');
    if (process.env['MOT_DEBUG']) console.error(error);
    process.exitCode = code === 'ERR_USAGE' ? 2 : 1;
  }
}

/** An option's value as a whole number of at least `least`; MotError ERR_USAGE otherwise. */
export function wholeNumber(option: string, least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least)
      throw new MotError('ERR_USAGE', `${option} must be a whole number of at least ${least}, got ${text}.`);
    return value;
  };
}

/** `--threads`, which all commands that compute have. Default 0. */
export function threadsOption(): Option {
  return new Option('--threads <n>', 'threads; 0: all of this process')
    .argParser(wholeNumber('--threads', 0))
    .default(0);
}

/** `--seed` of what is generated. Default 0. */
export function seedOption(): Option {
  return new Option('--seed <n>', 'seed of the draws').argParser(wholeNumber('--seed', 0)).default(0);
}

/** `--weights`, which all commands that load a checkpoint have. */
export function weightsOption(): Option {
  return new Option(
    '--weights <which>',
    'ema, the averaged weights, or raw, those that training goes on with; default: ema where the run has train.ema_decay',
  ).argParser(oneOf('--weights', ['ema', 'raw']));
}

/** An option's value as one of a few; MotError ERR_USAGE otherwise. */
export function oneOf<T extends string>(option: string, values: readonly T[]): (text: string) => T {
  return (text) => {
    if (!values.includes(text as T))
      throw new MotError('ERR_USAGE', `${option} must be ${values.join(' or ')}, got ${text}.`);
    return text as T;
  };
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** Columns aligned: text to the left, numbers to the right; with `figures` all columns but the first to the right. */
export function table(rows: readonly (readonly (string | number)[])[], { figures = false } = {}): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, String(cell).length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) =>
          typeof cell === 'number' || (figures && i > 0) ? String(cell).padStart(widths[i]!) : cell.padEnd(widths[i]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
