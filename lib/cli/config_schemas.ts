import { z } from 'zod';
import { compareSchema } from '../compare/config.js';
import { diffusionSchema, modelConfigShape } from '../config/model_config.js';
import { presetNames } from '../config/presets.js';
import { IMAGE_MASKS, runConfigSchema } from '../config/run_config.js';
import { trainConfigSchema } from '../config/train_config.js';
import { ownSchema, sourceSchemas } from '../data/own/options.js';

/*
 * JSON Schemas of the two kinds of config, for editors and `mot init`. scripts/config_schemas.mjs writes them beside the
 * compiled code, and takes each key's description from its doc comment where the schema is defined.
 */

const presetKey = {
  /** Stands for the keys of a preset, under those that are given; `mot describe` lists presets. */
  preset: z.enum(presetNames() as [string, ...string[]]).optional(),
};
const modelKeys = z
  .strictObject(modelConfigShape)
  .partial()
  .extend({
    ...presetKey,
    /** Transfusion: one modality consists of continuous patches, which follow from the data. Default: none does. */
    diffusion: diffusionSchema.partial().nullish(),
  });

/** A run config as one writes it, or the config of a comparison. */
export const runConfigFile = runConfigSchema.extend({
  /** The model. `vocab` and `modalities` follow from the data set. */
  model: modelKeys.optional(),
  /** Steps, batch, optimiser, checkpoints and where it computes. */
  train: trainConfigSchema.in.safeExtend(presetKey).optional(),
  /** Folder of the run. Default: runs/NAME, after the file's name. */
  out: z.string().min(1).optional(),
  /** For `mot compare`: models that are trained side by side. */
  compare: compareSchema
    .extend({
      /** What each model has else than `model`: these keys take the place of those of the same name. */
      models: z.record(
        z.string(),
        modelKeys.extend({
          /** In the place of `data.diffusion.image_mask`. */
          image_mask: z.enum(IMAGE_MASKS).optional(),
        }),
      ),
    })
    .optional(),
});

const { jsonl, text, webdataset, parquet } = sourceSchemas;

/** A config of `mot prepare` as one writes it. */
export const dataConfigFile = ownSchema.safeExtend({
  /** What it is made of: any number of sources, mixed. */
  sources: z.array(z.union([jsonl, text, webdataset, parquet])).min(1),
});

/** Draft 7, which all editors know. */
export function jsonSchemaOf(schema: z.ZodType): Record<string, unknown> {
  return z.toJSONSchema(schema, { target: 'draft-7', io: 'input' });
}
