import type { Command } from 'commander';
import { MotError } from '../errors.js';
import type { VerifyResult } from '../verify/verify.js';
import { oneOf, printJson, table, threadsOption } from './common.js';

interface VerifyFlags {
  device: 'cpu' | 'reference';
  dtype: 'f32' | 'bf16';
  threads: number;
  out?: string;
  json?: boolean;
}

/** Adds `mot verify`. */
export function registerVerify(program: Command): void {
  program
    .command('verify')
    .description('Compute golden files and compare every output, loss, gradient and weight with theirs.')
    .argument('[file...]', 'golden files (safetensors); default: those in the package')
    .option('--device <name>', 'cpu, or reference (plain loops)', oneOf('--device', ['cpu', 'reference']), 'cpu')
    .option('--dtype <name>', 'f32 or bf16', oneOf('--dtype', ['f32', 'bf16']), 'f32')
    .addOption(threadsOption())
    .option('--out <file>', 'write what was computed, in the format of golden files (one FILE only)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Of each tensor it prints ||x - y|| / ||y||, the largest |x - y| / max(|y|, rms(y)) of any element, and their bounds.
Exits 1 when any exceeds its bound.

Examples:
  mot verify
  mot verify test/golden/dense.safetensors --dtype bf16
  mot verify my.safetensors --device reference --out computed.safetensors`,
    )
    .action((files: string[], flags: VerifyFlags) => verify(files, flags));
}

async function verify(files: string[], flags: VerifyFlags): Promise<void> {
  const { verifyFile, packagedGoldenFiles } = await import('../verify/verify.js');
  if (flags.out !== undefined && files.length !== 1)
    throw new MotError('ERR_USAGE', `--out takes the results of one FILE, got ${files.length}.`);
  const results: VerifyResult[] = [];
  let chosen = files;
  if (files.length === 0) {
    chosen = packagedGoldenFiles();
    if (chosen.length === 0) throw new MotError('ERR_FILE_OPEN', 'this package has no golden files; name one.');
  }
  // One file that cannot be verified does not keep the others from it.
  const errors: { file: string; code: string; message: string }[] = [];
  for (const file of chosen) {
    const { device, dtype, threads, out } = flags;
    try {
      const result = await verifyFile(file, { device, dtype, threads, ...(out === undefined ? {} : { out }) });
      results.push(result);
      if (!flags.json) process.stdout.write(`${describe(result)}\n`);
    } catch (error) {
      if (!(error instanceof MotError)) throw error;
      errors.push({ file, code: error.code, message: error.message });
      process.stderr.write(`mot: ${error.message} [${error.code}]\n`);
    }
  }
  const failed = results.filter((result) => !result.passed).length + errors.length;
  if (failed > 0) process.exitCode = 1;
  if (flags.json) {
    printJson({ passed: failed === 0, results, errors });
    return;
  }
  const many = `${chosen.length} file${chosen.length === 1 ? '' : 's'}`;
  process.stdout.write(failed === 0 ? `${many} verified\n` : `${failed} of ${many} FAILED\n`);
}

function describe(result: VerifyResult): string {
  const number = (value: number | null): string =>
    value === null ? '-' : value === 0 ? '0' : Number.isFinite(value) ? value.toExponential(1) : String(value);
  const rows = result.comparisons.map((row) => [
    row.passed ? ' ' : 'X',
    row.name,
    number(row.error),
    number(row.bound),
    number(row.elementError),
    number(row.elementBound),
    row.worst ? `element ${row.worst.index}: ${row.worst.got}, expected ${row.worst.expected}` : '',
  ]);
  const header = [' ', 'tensor', 'error', 'bound', 'element', 'bound', ''];
  const { file, device, dtype, threads, passed, note } = result;
  return `${file} (${device}, ${dtype}, ${threads} thread${threads === 1 ? '' : 's'})\n${table([header, ...rows])}\n${note === undefined ? '' : `${note}\n`}${passed ? 'passed' : 'FAILED'} ${file}\n`;
}
