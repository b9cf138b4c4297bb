/// <reference types="node" preserve="true" />
/**
 * Mixture-of-Transformers models in Node.js: one sequence of text, images, speech or modalities of your own, and for each
 * of them its own weights.
 *
 * - Model: `Model`, its config and batches, and safetensors files.
 * - Training: `train` on your own documents, `runTraining` for whole runs with checkpoints, as `mot train` makes them.
 * - Comparison: `runComparison` trains models side by side, as `mot compare` does; `matchSteps` for curves of your own.
 * - Generation: `generate` tokens, `generateSpan` of a modality, `openRun` to load a checkpoint.
 * - Data: tokenizers, vocabulary, packing of documents, prepared data sets.
 *
 * Everything that goes wrong is a `MotError` with a `code`.
 *
 * @example
 * await using model = await Model.create(
 *   { vocab: 512, d_model: 64, n_layers: 2, n_heads: 4, modalities: ['text', 'image'] },
 *   { tokens: 1024 },
 * );
 * for await (const { step, loss } of train(model, documents(), { steps: 100, sequences: 4, seqLen: 256 }))
 *   console.log(step, loss);
 * const [tokens] = await generate(model, [{ token: [0, 5], modality: [0, 0] }], { maxTokens: 20 });
 *
 * @packageDocumentation
 */
export { MotError, type MotErrorCode } from './errors.js';

// Model
export {
  Model,
  type AdamWOptions,
  type CallOptions,
  type StepOptions,
  type DecodeBatch,
  type Losses,
  type ModelConfig,
  type ModelConfigInput,
  type ModelOptions,
  type Output,
  type PlanEntry,
  type Snapshot,
  type StepResult,
  type TensorKind,
  type TensorShape,
  type WeightKind,
} from './model/model.js';
export type { Batch, Document, Patches } from './model/batch.js';
export { parseModelConfig, type Part } from './config/model_config.js';
export { findPreset, PRESET_VARIANTS, PRESETS, type Preset, type PresetModel } from './config/presets.js';
export { parameterCount, type ParameterCount } from './model/parameters.js';
export { trainingMemory, type Fit, type TrainingMemory } from './model/fit.js';
export { machineMemory, type MachineMemory } from './machine.js';
export {
  SafetensorsFile,
  writeSafetensors,
  type TensorInfo,
  type TensorToWrite,
  type TensorValues,
} from './io/safetensors.js';

// Training
export { train, type TrainOptions } from './train/train.js';
export { runTraining, type RunOptions, type RunResult } from './train/run.js';
export type { OnMetrics } from './train/hook.js';
export { readRunConfig, type RunConfig } from './config/run_config.js';
export type { TrainConfig, TrainConfigInput } from './config/train_config.js';
export { evaluate, type PooledLosses } from './train/evaluate.js';
export { learningRate, type Schedule } from './train/schedule.js';
export type { ScheduleShape } from './config/schedules.js';
export { openCheckpoint, type Checkpoint, type TrainerState } from './train/checkpoint.js';
export {
  isStep,
  readMetrics,
  type AnomalyMetrics,
  type MetricsLine,
  type ResumedMetrics,
  type SamplesMetrics,
  type StepMetrics,
  type ValidationMetrics,
} from './train/metrics.js';
export { consoleProgress, type Progress } from './train/progress.js';
export { verifyFile, type VerifyOptions, type VerifyResult } from './verify/verify.js';
export type { Comparison, ValueKind } from './verify/judge.js';

// Comparison
export { readComparison, type ComparisonPlan, type PlannedRun } from './compare/config.js';
export { runComparison, type ComparisonOptions, type ComparisonResult, type ModelSummary } from './compare/run.js';
export { writeComparisonReport } from './compare/report.js';
export type { CompareResults, MatchResult } from './compare/results.js';
export {
  estimateMatch,
  type FractionEstimate,
  type EstimateOptions,
  type MatchEstimate,
  type RunCurve,
} from './compare/bootstrap.js';
export { matchSteps, type Matching } from './compare/match.js';

// Generation
export { generate, type GenerateOptions, type NextTokens } from './generate/generate.js';
export type { IdRange, SamplingOptions } from './generate/sampler.js';
export { generateDocument, type DocumentOptions } from './generate/documents.js';
export { generateSpan, type SpanOptions } from './generate/spans.js';
export type { DiffusionOptions } from './generate/diffusion.js';
export type { ImageGeneration } from './generate/images.js';
export { openRun, type OpenedRun } from './generate/open_run.js';
export {
  evaluateRun,
  type EvaluatedSplit,
  type EvaluateOptions,
  type RunEvaluation,
  type SplitEvaluation,
} from './evaluate/evaluate_run.js';
export type { Retrieval, SceneMetrics } from './evaluate/scenes.js';
export type { Estimate } from './evaluate/metrics.js';
export { writeReport, type ReportOptions } from './report/report.js';

// Data
export {
  continuousModality,
  makeVocabulary,
  modalityOfToken,
  type ContinuousModality,
  type Vocabulary,
} from './modalities/vocabulary.js';
export type { Picture, Sound, SpanRule, Tokenizer } from './modalities/tokenizer.js';
export {
  decodeDocument,
  encodeDocument,
  codecFormats,
  encodeSegments,
  joinSpans,
  loadCodecs,
  loadTokenizers,
  saveCodecs,
  saveTokenizers,
  splitSpans,
  tokenizerFormats,
  type Segment,
  type SegmentTypes,
  type Span,
  type TokenizerFormat,
  type Tokenizers,
  type TokenSequence,
} from './modalities/registry.js';
export type { AsyncTokenizer, ModalityModule, ModuleContext } from './modalities/module.js';
export { TextTokenizer } from './modalities/text/bpe.js';
export { HubTextTokenizer } from './modalities/text/hub_tokenizer.js';
export { loadTextTokenizer } from './modalities/text/tokenizer_json.js';
export { trainBpe, type BpeModel, type BpeOptions } from './modalities/text/train_bpe.js';
export { ImageTokenizer, type ImageTokenizerOptions } from './modalities/image/patch_codebook.js';
export type { Codecs, LatentCodec } from './modalities/codec.js';
export { PixelCodec, type PixelCodecOptions } from './modalities/image/pixel_codec.js';
export { SpeechTokenizer, type SpeechTokenizerOptions } from './modalities/speech/speech_units.js';
export {
  joinDocuments,
  packDocuments,
  Packer,
  type CountedBatch,
  type ImageMask,
  type PackedBatch,
  type PackOptions,
} from './data/packer.js';
export { batchesOf, Loader, type DocumentTransform, type LoaderOptions } from './data/loader.js';
export { trainingNoise, validationNoise, type NoiseOptions } from './data/noise.js';
export type {
  DatasetExample,
  DatasetManifest,
  DatasetSplit,
  DocumentSource,
  SourceSummary,
  SplitName,
} from './data/dataset.js';
export { prepareEmoji, type PreparedDataset, type PrepareRun } from './data/prepare_emoji.js';
export { prepareOwn } from './data/own/prepare.js';
export { readOwnOptions, type OwnOptions, type SourceOptions } from './data/own/options.js';
export { inspectDataset, type DocumentSample, type InspectOptions, type SplitInspection } from './data/inspect.js';
export type { PrepareProgress, Stage } from './data/prepare_progress.js';
export { openSplit, readManifest, writeManifest } from './data/manifest.js';
export { ShardWriter } from './data/shard.js';
export type { EmojiOptions, EmojiOptionsInput } from './data/emoji/options.js';
export { readAudio, readImage } from './media/decode.js';
export { writePng, type PngOptions } from './media/png.js';
export { writeWav } from './media/wav.js';
