import { BINDINGS, loadBindings, type Binding, type BindingCalls } from './binding_build.js';
import { medianRatio, summarize } from './statistics.js';
import type { BenchCase, BenchContext } from './types.js';

/** Calls in one measurement: milliseconds of it are nanoseconds a call. */
const CALLS = 1e6;

const LABELS: Record<Binding, string> = { napi: 'node-addon-api', nan: 'V8 by nan' };

/** A loop for one function only: V8 then knows whom it calls, as in most programs. */
function loop(
  binding: Binding,
  name: keyof BindingCalls,
): (call: (array: Float32Array) => unknown, array: Float32Array) => void {
  const call = name === 'empty' ? 'call()' : 'call(array)';
  // The comment keeps V8 from sharing what it learns about one loop with the others.
  return new Function(
    'call',
    'array',
    `/* ${binding} ${name} */ for (let i = 0; i < ${CALLS}; i++) ${call};`,
  ) as ReturnType<typeof loop>;
}

/**
 * Suite `binding`: what a call from JavaScript into an addon costs, empty and with a Float32Array whose pointer is read,
 * through node-addon-api, as our addon, and through V8's own interface. The options are those of `loadBindings`.
 */
export async function bindingSuite(
  { repeats, progress }: BenchContext,
  options: { folder?: string } = {},
): Promise<BenchCase[]> {
  await progress('binding: building two small addons');
  const addons = loadBindings(options);
  const array = Float32Array.from({ length: 1024 }, (_, i) => i);
  const cases: BenchCase[] = [];
  for (const name of ['empty', 'first'] as const) {
    const what = name === 'empty' ? 'empty calls' : 'calls with a Float32Array';
    await progress(`binding: ${what}`);
    const times: Record<Binding, number[]> = { napi: [], nan: [] };
    const loops = BINDINGS.map((binding) => ({ binding, run: loop(binding, name) }));
    const rounds = repeats(15);
    for (let round = 0; round <= rounds; round++)
      for (const { binding, run } of loops) {
        const begin = performance.now();
        run(addons[binding][name], array);
        const ms = performance.now() - begin;
        if (round > 0) times[binding].push(ms); // the first one compiles
      }
    for (const binding of BINDINGS) {
      const summary = summarize(times[binding]);
      cases.push({
        name: `a million ${what}, ${LABELS[binding]}`,
        dtype: 'f32',
        threads: 1,
        ...summary,
        ns_per_call: (summary.median_ms * 1e6) / CALLS,
        ...(binding === 'nan' ? {} : { ratio_to_nan: medianRatio(times[binding], times.nan) }),
      });
    }
  }
  return cases;
}
