import type { Suite } from './types.js';

/** Every suite by name, in the order in which `all` runs them. Each is loaded when it runs. */
export const SUITES = {
  limits: {
    about: 'what the processor can do: multiply-adds in registers, DRAM streams',
    run: async (context) => (await import('./limits.js')).limitsSuite(context),
  },
  gemm: {
    about: 'matrix products: forward, d_x, d_w',
    run: async (context) => (await import('./ops.js')).gemmSuite(context),
  },
  grouped: {
    about: 'one product over several towers, against a dense one of as many rows',
    run: async (context) => (await import('./ops.js')).groupedSuite(context),
  },
  attention: {
    about: 'attention forward and backward: long, short and packed documents',
    run: async (context) => (await import('./ops.js')).attentionSuite(context),
  },
  loss: {
    about: 'linear cross-entropy, against a matrix product of its shape',
    run: async (context) => (await import('./ops.js')).lossSuite(context),
  },
  rows: {
    about: 'ops bound by memory: norms, RoPE, SwiGLU, embedding',
    run: async (context) => (await import('./ops.js')).rowsSuite(context),
  },
  optimizer: {
    about: 'AdamW and gradient norm',
    run: async (context) => (await import('./ops.js')).optimizerSuite(context),
  },
  step: {
    about: 'training steps: dense, MoT of 2 and 3 modalities, and a mixture of 4 experts',
    run: async (context) => (await import('./step.js')).stepSuite(context),
  },
  recompute: {
    about: 'activation checkpointing: time and memory of each mode',
    run: async (context) => (await import('./recompute.js')).recomputeSuite(context),
  },
  loader: {
    about: 'packing batches from token shards',
    run: async (context) => (await import('./loader.js')).loaderSuite(context),
  },
  checkpoint: {
    about: 'saving a checkpoint, against the disk',
    run: async (context) => (await import('./checkpoint.js')).checkpointSuite(context),
  },
  decode: {
    about: 'generating one sequence, token by token',
    run: async (context) => (await import('./decode.js')).decodeSuite(context),
  },
  startup: {
    about: 'a fresh process: loading the addon, the first step',
    run: async (context) => (await import('./startup.js')).startupSuite(context),
  },
  binding: {
    about: 'a call into an addon: node-addon-api against V8 by nan',
    run: async (context) => (await import('./binding.js')).bindingSuite(context),
  },
} satisfies Record<string, Suite>;

/** Name of a suite. */
export type SuiteName = keyof typeof SUITES;
