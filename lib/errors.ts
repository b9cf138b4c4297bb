/** What went wrong, as a stable string to branch on. The message says what to do about it. */
export type MotErrorCode =
  /** The native addon could not be loaded or built; the message lists every attempt. */
  | 'ERR_ADDON'
  /** A config: unknown key, impossible shape, value out of range. */
  | 'ERR_CONFIG'
  /** Bad command-line usage. */
  | 'ERR_USAGE'
  /** An argument of a library call: type, length, unknown option. */
  | 'ERR_ARGUMENT'
  /** A batch: token, modality, position or target out of range; intervals that are not valid. */
  | 'ERR_BATCH'
  /** A batch, document or prompt over the limits the model was created with. */
  | 'ERR_LIMIT'
  /** No tensor of that name. */
  | 'ERR_TENSOR_NAME'
  /** Weights or results that are NaN or infinite. */
  | 'ERR_NOT_FINITE'
  /** A training step far worse than those before it, where the config says to stop then. */
  | 'ERR_LOSS_SPIKE'
  /** A file that is missing or cannot be read. */
  | 'ERR_FILE_OPEN'
  /** A file that is not what it should be: truncated, hostile, foreign. */
  | 'ERR_FILE_FORMAT'
  /** A file that could not be written: full disk, folder without permission. */
  | 'ERR_FILE_WRITE'
  /** Data sets: a missing data package, documents that do not fit. */
  | 'ERR_DATA'
  /** Not enough memory for the plan. */
  | 'ERR_MEMORY'
  /** The call's AbortSignal fired. */
  | 'ERR_ABORTED'
  /** The model was disposed before or during the call. */
  | 'ERR_DISPOSED'
  /** A backend or feature that this build or machine lacks. */
  | 'ERR_UNSUPPORTED'
  /** A defect of this package. */
  | 'ERR_INTERNAL';

/** The one error class of this package. */
export class MotError extends Error {
  readonly code: MotErrorCode;
  constructor(code: MotErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'MotError';
    this.code = code;
  }
}
