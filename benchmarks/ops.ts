/**
 * Times the op cases (native/cases) on a backend: `npm run bench -- [filter] [--dtype f32|bf16] [--threads N] [--device cpu]
 * [--repeats N]`. Beside each median stands the speed it means: GFLOP/s where arithmetic bounds the op, GB/s where bytes do.
 */
import { parseArgs } from 'node:util';
import { loadAddon } from '../lib/native/load.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dtype: { type: 'string', default: 'f32' },
    threads: { type: 'string', default: '0' },
    device: { type: 'string', default: 'cpu' },
    repeats: { type: 'string', default: '15' },
  },
});
const addon = loadAddon();
const dtype = values.dtype === 'bf16' ? 'bf16' : 'f32';
const filter = positionals[0] ?? 'bench';

const median = (times: Float64Array) => Float64Array.from(times).sort()[times.length >> 1] ?? NaN;
const speed = (flops: number, bytes: number, ms: number) =>
  flops > 8 * bytes
    ? `${(flops / ms / 1e6).toFixed(1).padStart(8)} GFLOP/s`
    : `${(bytes / ms / 1e6).toFixed(1).padStart(8)} GB/s   `;

console.log(
  `${values.device} (${addon.cpu().variant}), ${dtype}, ${values.threads === '0' ? addon.cpu().threads : values.threads} threads, medians of ${values.repeats}`,
);
for (const info of addon.cases()) {
  if (!info.name.includes(filter)) continue;
  const time = await addon.timeCase(info.name, values.device, dtype, Number(values.threads), Number(values.repeats));
  const forward = median(time.forwardMs);
  let line = `${info.name.padEnd(56)} forward ${forward.toFixed(3).padStart(9)} ms ${speed(info.flops, info.bytes, forward)}`;
  if (time.backwardMs.length > 0) line += `  backward ${median(time.backwardMs).toFixed(3).padStart(9)} ms`;
  console.log(line);
}
