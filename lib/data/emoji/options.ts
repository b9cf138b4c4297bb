import { z } from 'zod';

const count = z.int().min(0);
const share = z.number().min(0).max(1);

/** Side of a picture in pixels. */
export const SIDE = 32;

/** Voices of Flite. */
export const VOICES = ['slt', 'rms', 'awb', 'kal16'] as const;

/** Options of the emoji data set; `mot prepare emoji key=value` sets them. The defaults are those of `npm start`. */
export const emojiOptionsSchema = z.strictObject({
  /** What every draw follows from. */
  seed: count.default(0),
  /** Concepts, the most plainly named first; 0: all. */
  concepts: count.default(500),
  /** Also the five skin tones of people and hands, as pictures of their own. */
  skin_tones: z.boolean().default(false),
  /** Concepts whose names are spoken, the most plainly named first; 0: none. */
  spoken: count.default(400),
  /** Voices that speak. */
  voices: z.array(z.enum(VOICES)).min(1).default(['slt']),
  /** Share of base concepts that training never sees. */
  heldout: z.number().min(0).max(0.5).default(0.05),
  /** Documents to train on. */
  documents: z.int().min(1).default(40000),
  /** Documents of the split `validation`: new scenes of known concepts. */
  validation_documents: count.default(400),
  /** Documents of the split `heldout`: scenes of concepts that training never sees. */
  heldout_documents: count.default(400),
  /** Share of documents that are a WordNet gloss. */
  glosses: share.default(0.03),
  /** Share of scenes with one emoji; the others have two at half the size. */
  singles: share.default(0.4),
  /** Ways of phrasing a caption, 1 to 4. */
  phrasings: z.int().min(1).max(4).default(4),
  /** Ids of text, the 256 bytes included. */
  text_vocabulary: z.int().min(256).default(1000),
  /** Codes of a stage of the picture codebook. */
  image_codes: z.int().min(2).default(512),
  /** Stages of the picture codebook: tokens of a 4x4 patch. */
  image_stages: z.int().min(1).max(4).default(2),
  /** Speech units. */
  speech_units: z.int().min(2).default(500),
  /**
   * Pictures as continuous patches, to be learnt by diffusion, rather than as codes; there is no speech then. `{}` takes
   * the defaults; absent: codes. A document with a picture takes 12 KB.
   */
  latents: z
    .strictObject({
      /** Side of a patch in pixels, a divisor of 32. */
      patch_size: z
        .int()
        .min(1)
        .refine((size) => SIDE % size === 0, `patches must tile pictures of ${SIDE} pixels; give a divisor`)
        .default(4),
      /** Share of scenes whose caption stands before the picture. */
      caption_first: share.default(0.8),
    })
    .optional(),
});

/** Options with every default filled in. */
export type EmojiOptions = z.output<typeof emojiOptionsSchema>;

/** Options as they are given. */
export type EmojiOptionsInput = z.input<typeof emojiOptionsSchema>;
