/**
 * Shapes that the suites time, by the name of the native case (native/cases), which has its sizes. Rows are tokens; of
 * a product y[rows, out] = x[rows, in] W[out, in]^T the three numbers are rows, in, out.
 */
export const GEMM_CASES = ['2048_512_2048', '4096_1024_1024', '4096_4096_1024', '4096_1024_4096'].map(
  (shape) => `grouped_gemm/bench_${shape}`,
);

/** Pairs of as many rows: dense, then in groups, each group with the weights of its own tower. */
export const GROUPED_CASES = [
  ['grouped_gemm/bench_dense_4096', 'grouped_gemm/bench_uneven_4096'],
  ['grouped_gemm/bench_dense_768', 'grouped_gemm/bench_groups_of_256'],
] as const;

/** 4096 tokens, 8 heads of 64: causal within documents of 1024, 512 and 128 tokens. */
export const ATTENTION_CASES = ['documents_1024', 'documents_512', 'packed_128'].map(
  (mask) => `attention/bench_${mask}`,
);

/** Pairs: the matrix product of the same rows, width and vocabulary, then the loss. */
export const LOSS_CASES = ['2048_512_4096', '1024_1024_16384'].map(
  (shape) => [`grouped_gemm/bench_${shape}`, `linear_cross_entropy/bench_${shape}`] as const,
);

/** Ops whose time is bytes, on tensors that no cache holds. */
export const ROW_CASES = [
  'rms_norm',
  'qk_norm_rope',
  'swiglu',
  'silu',
  'embedding',
  'squared_error',
  'router',
  'dispatch',
].map((op) => `${op}/bench`);

/** The optimizer's passes over all weights; they are f32 in every dtype. */
export const OPTIMIZER_CASES = ['adamw', 'grad_norm', 'ema'].map((op) => `${op}/bench`);
