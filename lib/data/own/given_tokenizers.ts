import { MotError } from '../../errors.js';
import { ImageTokenizer } from '../../modalities/image/patch_codebook.js';
import type { ModuleTokenizer } from '../../modalities/module.js';
import { loadTokenizer } from '../../modalities/registry.js';
import type { SpeechTokenizer } from '../../modalities/speech/speech_units.js';
import type { OwnOptions } from './options.js';

/** Tokenizers that the config takes from other data sets. */
export interface GivenTokenizers {
  image?: ImageTokenizer | ModuleTokenizer;
  speech?: SpeechTokenizer | ModuleTokenizer;
}

/**
 * Reads the files that `tokenizers.image.file` and `tokenizers.speech.file` name.
 *
 * @throws MotError ERR_CONFIG for a tokenizer of another modality, ERR_FILE_OPEN, ERR_FILE_FORMAT.
 */
export async function givenTokenizers({ tokenizers }: OwnOptions): Promise<GivenTokenizers> {
  const given: Record<string, unknown> = {};
  for (const modality of ['image', 'speech'] as const) {
    const { file } = tokenizers[modality];
    if (file === undefined) continue;
    const problem = (why: string, cause?: unknown): MotError =>
      new MotError(
        cause instanceof MotError ? cause.code : 'ERR_CONFIG',
        `tokenizers.${modality}.file: ${file} is not the ${modality} tokenizer of a data set (${why}); name FOLDER/${modality}_tokenizer.safetensors, or .json where a module made it.`,
        { cause },
      );
    const tokenizer = await loadTokenizer(modality, file).catch((error: unknown) => {
      throw error instanceof MotError ? problem(error.message, error) : error;
    });
    if (tokenizer.modality !== modality) throw problem(`it is for ${tokenizer.modality}`);
    given[modality] = tokenizer;
  }
  return given;
}

/** The options with the sizes of the tokenizers that are given. */
export function withGivenSizes(options: OwnOptions, { image }: GivenTokenizers): OwnOptions {
  const size = image instanceof ImageTokenizer ? image.grid.pictureSize : image?.pictureSize;
  if (size === undefined) return options;
  return { ...options, tokenizers: { ...options.tokenizers, image: { ...options.tokenizers.image, size } } };
}
