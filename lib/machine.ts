import { cpus, release, totalmem, type } from 'node:os';
import { loadAddon } from './native/load.js';
import { packageVersion } from './package.js';

/** Bytes of memory. */
export interface MachineMemory {
  /** What this process may use at most: the machine's memory, or the limit of its container (cgroup). */
  limit: number;
  /** What of it is free now. */
  available: number;
}

/** Memory of this machine, as far as this process may use it. */
export function machineMemory(): MachineMemory {
  // 0 where there are no limits, a number beyond any memory where none is set.
  const constrained = process.constrainedMemory();
  const limit = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  return { limit, available: Math.min(process.availableMemory(), limit) };
}

/** What a figure was measured on. */
export interface Machine {
  cpu: string;
  /** Instruction set of the kernels. */
  instructions: string;
  threads: number;
  memory_gb: number;
  system: string;
  node: string;
  /** Version of this package. */
  package: string;
  /** ISO 8601. */
  date: string;
}

/** This machine, now. */
export function machine(): Machine {
  const { variant, threads } = loadAddon().cpu();
  return {
    cpu: cpus()[0]?.model.trim() ?? process.arch,
    instructions: variant,
    threads,
    memory_gb: Math.round(totalmem() / 1e9),
    system: `${type()} ${release()} ${process.arch}`,
    node: process.version,
    package: packageVersion(),
    date: new Date().toISOString(),
  };
}
