import { totalmem } from 'node:os';

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
