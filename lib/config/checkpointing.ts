/**
 * What training computes again in backward rather than keep from forward: nothing, the attention branch, or both branches
 * of a layer. In the order of less and less memory; the result is the same bits.
 */
export const CHECKPOINTING = ['none', 'attention', 'block'] as const;

/** One of `CHECKPOINTING`. */
export type Checkpointing = (typeof CHECKPOINTING)[number];
