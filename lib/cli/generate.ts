import type { Command } from 'commander';
import path from 'node:path';
import { MotError } from '../errors.js';
import type { Segment, Tokenizers } from '../modalities/registry.js';
import type { Picture, Sound } from '../modalities/tokenizer.js';
import type { WeightKind } from '../model/model.js';
import { printJson, seedOption, threadsOption, weightsOption, wholeNumber } from './common.js';

interface GenerateFlags {
  output: string;
  out?: string;
  maxTokens?: number;
  temperature: number;
  topK: number;
  topP: number;
  samplingSteps: number;
  guidance: number;
  eta: number;
  seed: number;
  count: number;
  threads: number;
  approximateRouting?: boolean;
  weights?: WeightKind;
  json?: boolean;
}

type PromptKind = 'text' | 'image' | 'speech' | 'own';

/** `mot generate CHECKPOINT`. */
export function registerGenerate(program: Command): void {
  // Segments in the order they stand on the command line: [kind, value].
  const prompt: [kind: PromptKind, value: string][] = [];
  const segment = (kind: PromptKind) => (value: string) => {
    prompt.push([kind, value]);
    return value;
  };
  program
    .command('generate')
    .description('go on from a prompt of text, pictures and sounds with text, a picture or speech')
    .argument('<checkpoint>', 'a checkpoint, or the folder of a run (its newest checkpoint)')
    .option('--text <text>', 'text of the prompt', segment('text'))
    .option('--image <file>', 'picture of the prompt (PNG, JPEG, WebP, SVG, ...)', segment('image'))
    .option('--audio <file>', 'speech of the prompt (WAV, MP3, OGG, FLAC)', segment('speech'))
    .option('--segment <name=json>', 'value of a modality of your own in the prompt', segment('own'))
    .option(
      '--output <modality>',
      'text, image, speech (or audio), one of your own; or document: all that follows',
      'text',
    )
    .option(
      '--out <path>',
      'file for a picture (.png) or speech (.wav), folder for documents; default output.png, output.wav, output',
    )
    .option('--count <n>', 'how many; files get a number', wholeNumber('--count', 1), 1)
    .option(
      '--max-tokens <n>',
      'most tokens generated; default: what one document may hold',
      wholeNumber('--max-tokens', 0),
    )
    .option('--temperature <x>', 'divides the logits; 0: the likeliest token', Number, 1)
    .option('--top-k <n>', 'only the n likeliest tokens; 0: all', wholeNumber('--top-k', 0), 0)
    .option('--top-p <x>', 'only the likeliest tokens of this joint probability', Number, 1)
    .option(
      '--sampling-steps <n>',
      'steps of diffusion for a continuous picture: more is finer and slower',
      wholeNumber('--sampling-steps', 1),
      100,
    )
    .option('--guidance <x>', 'how far a continuous picture follows the prompt; 1: as learnt', Number, 3)
    .option('--eta <x>', 'fresh noise in each step of diffusion: 1 DDPM, 0 DDIM', Number, 1)
    .addOption(weightsOption())
    .addOption(seedOption())
    .addOption(threadsOption())
    .option(
      '--approximate-routing',
      'let a model with expert choice generate: its tokens go to their most probable experts, as with token choice',
    )
    .option('--json', 'print one JSON object instead of lines')
    .addHelpText(
      'after',
      `
Options of the prompt may be repeated; their order is the order of the document.

Examples:
  mot generate runs/start --text "noto red heart on blue" --output image --out heart.png
  mot generate runs/start --image heart.png --output text --temperature 0
  mot generate runs/start --text "red heart" --output speech --out heart.wav
  mot generate runs/start --text "red heart" --output document --out hearts --count 4
  mot generate runs/series --segment "series=[1.5, 2, 2.5]" --output series
  mot generate runs/transfusion --text "noto moai on orange" --output image --sampling-steps 250 --guidance 4
`,
    )
    .action(async (checkpoint: string, flags: GenerateFlags) => {
      const results = await run(checkpoint, prompt, flags);
      if (flags.json) printJson({ output: flags.output, results });
      else for (const result of results) console.log(result);
    });
}

async function run(checkpoint: string, prompt: [PromptKind, string][], flags: GenerateFlags): Promise<string[]> {
  const output = flags.output === 'audio' ? 'speech' : flags.output;
  const { looksAhead } = await import('../config/model_config.js');
  const { openRun } = await import('../generate/open_run.js');
  const { guidanceSlots } = await import('../generate/images.js');
  const { generateSpan } = await import('../generate/spans.js');
  const { readImage, readAudio } = await import('../media/decode.js');
  const { ImageTokenizer } = await import('../modalities/image/patch_codebook.js');
  const { ModuleTokenizer } = await import('../modalities/module.js');
  const { PixelCodec } = await import('../modalities/image/pixel_codec.js');
  let room = 0;
  await using opened = await openRun(checkpoint, {
    threads: flags.threads,
    approximateRouting: flags.approximateRouting ?? false,
    weights: flags.weights,
    slots: (_, longestDocument, images) => {
      room = Math.max(2 * longestDocument, 2 * (flags.maxTokens ?? 0)) + (images ? guidanceSlots(images) : 0);
      return Math.min(flags.count, 8) * room;
    },
  });
  const { tokenizers, codecs, manifest, model } = opened;
  if (looksAhead(opened.model.config) && !flags.approximateRouting)
    throw new MotError(
      'ERR_UNSUPPORTED',
      'this model cannot generate: with expert choice, which tokens an expert takes depends on later ones. Give --approximate-routing to send every token to its most probable experts instead, or train with routing: token_choice.',
    );
  const segments: Segment[] = [];
  for (const [kind, value] of prompt) {
    if (kind === 'text') segments.push({ text: value });
    else if (kind === 'own') segments.push(await ownSegment(value, tokenizers));
    else if (kind === 'image') {
      // As the training pictures were made to fit.
      const image = tokenizers['image'] ?? codecs['image'];
      const side =
        image instanceof ImageTokenizer || image instanceof PixelCodec
          ? image.grid.pictureSize
          : image instanceof ModuleTokenizer
            ? (image.pictureSize ?? 32)
            : 32;
      const fit = manifest.imageFit === undefined ? {} : { fit: manifest.imageFit };
      segments.push({ image: await readImage(value, side, side, fit) });
    } else segments.push({ speech: await readAudio(value) });
  }
  const { samplingSteps, guidance, eta } = flags;
  const images = opened.images && { ...opened.images, samplingSteps, guidance, eta };
  const prompts = Array.from({ length: flags.count }, () => segments);
  const options = {
    maxTokens: flags.maxTokens ?? manifest.longestDocument,
    temperature: flags.temperature,
    topK: flags.topK,
    topP: flags.topP,
    seed: flags.seed,
    codecs,
    ...(images ? { images } : {}),
  };
  if (output === 'document') {
    const { generateDocument } = await import('../generate/documents.js');
    const { writeDocuments } = await import('../report/document_page.js');
    const generated = await generateDocument(model, prompts, tokenizers, manifest.vocabulary, options);
    const folder = flags.out ?? 'output';
    const files = await writeDocuments(
      folder,
      generated.map((following) => joinTexts([...segments, ...following])),
    );
    return files.map((file) => path.join(folder, file));
  }
  const spans = await generateSpan(model, prompts, output, tokenizers, manifest.vocabulary, options);
  const results: string[] = [];
  for (const [i, span] of spans.entries()) results.push(await deliver(span, output, i, flags));
  return results;
}

/** The segments with neighbouring texts as one: the model goes on in the middle of the prompt's. */
function joinTexts(segments: readonly Segment[]): Segment[] {
  const joined: Segment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    if (last && 'text' in last && 'text' in segment) joined[joined.length - 1] = { text: last.text + segment.text };
    else joined.push(segment);
  }
  return joined;
}

/** A segment of a modality that a module made, from `name=json`. */
async function ownSegment(text: string, tokenizers: Tokenizers): Promise<Segment> {
  const { ModuleTokenizer } = await import('../modalities/module.js');
  const equals = text.indexOf('=');
  const name = text.slice(0, Math.max(0, equals));
  const tokenizer = Object.hasOwn(tokenizers, name) ? tokenizers[name] : undefined;
  if (!(tokenizer instanceof ModuleTokenizer)) {
    const own = Object.keys(tokenizers).filter((known) => tokenizers[known] instanceof ModuleTokenizer);
    throw new MotError(
      'ERR_USAGE',
      `--segment takes NAME=JSON, where NAME is a modality with a module of its own (${own.join(', ') || 'this model has none'}), got ${text}.`,
    );
  }
  try {
    return { [name]: await tokenizer.parse(JSON.parse(text.slice(equals + 1))) } as unknown as Segment;
  } catch (cause) {
    throw new MotError('ERR_USAGE', `--segment ${name}: ${(cause as Error).message}.`, { cause });
  }
}

/** Text as it is; pictures and sounds into a file, whose name it gives; values of own modalities as JSON. */
async function deliver(
  span: string | Picture | Sound,
  output: string,
  index: number,
  flags: GenerateFlags,
): Promise<string> {
  if (output !== 'image' && output !== 'speech') return typeof span === 'string' ? span.trim() : JSON.stringify(span);
  const { writePng } = await import('../media/png.js');
  const { writeWav } = await import('../media/wav.js');
  const picture = typeof span === 'object' && 'width' in span;
  const name = flags.out ?? (picture ? 'output.png' : 'output.wav');
  const numbered = flags.count === 1 ? name : name.replace(/(\.[^./\\]*)?$/, `-${index}$1`);
  if (picture) await writePng(numbered, span, { scale: 8 });
  else await writeWav(numbered, span as Sound);
  return numbered;
}
