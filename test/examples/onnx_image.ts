// Pictures as the codes of an ONNX encoder and decoder, such as a VQ-GAN. onnxruntime-node is an optional peer: install it
// beside mixture-of-transformers. The encoder takes float32 [1, 3, size, size] in [0, 1] and gives int64 codes
// [1, side, side]; the decoder does the reverse. Where yours differ, this is the file to change.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { AsyncTokenizer, ModalityModule, Picture } from '../../lib/index.js';

/** What is used of onnxruntime-node. */
interface OnnxTensor {
  data: ArrayLike<number> | BigInt64Array;
}
interface OnnxSession {
  inputNames: readonly string[];
  outputNames: readonly string[];
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>;
}
interface OnnxRuntime {
  InferenceSession: { create(path: string): Promise<OnnxSession> };
  Tensor: new (type: 'float32' | 'int64', data: Float32Array | BigInt64Array, dims: number[]) => OnnxTensor;
}

/** `tokenizers.image.options` of the config. */
interface Options {
  /** Paths of the two models, from the working folder. */
  encoder: string;
  decoder: string;
  /** Number of codes. */
  codes: number;
  /** Rows and columns of codes of a picture. */
  side: number;
  /** The runtime's module. Default: onnxruntime-node. */
  runtime?: string;
}

interface State extends Options {
  /** SHA-256 of both models: a data set's tokens mean nothing to others. */
  sha256: [encoder: string, decoder: string];
}

const hash = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

class OnnxImageTokenizer implements AsyncTokenizer<Picture> {
  readonly size: number;
  constructor(
    private readonly ort: OnnxRuntime,
    private readonly encoder: OnnxSession,
    private readonly decoder: OnnxSession,
    private readonly state: State,
  ) {
    this.size = state.codes;
  }

  async encode({ width, height, data }: Picture): Promise<Int32Array> {
    const plane = width * height;
    const pixels = new Float32Array(3 * plane);
    for (let i = 0; i < plane; i++) for (let c = 0; c < 3; c++) pixels[c * plane + i] = data[3 * i + c]! / 255;
    const input = new this.ort.Tensor('float32', pixels, [1, 3, height, width]);
    const output = await this.encoder.run({ [this.encoder.inputNames[0]!]: input });
    return Int32Array.from(output[this.encoder.outputNames[0]!]!.data as ArrayLike<number | bigint>, Number);
  }

  async decode(ids: ArrayLike<number>): Promise<Picture> {
    const { side } = this.state;
    // An incomplete picture is filled up with the first code.
    const codes = BigInt64Array.from({ length: side * side }, (_, i) => BigInt(ids[i] ?? 0));
    const input = new this.ort.Tensor('int64', codes, [1, side, side]);
    const output = await this.decoder.run({ [this.decoder.inputNames[0]!]: input });
    const pixels = output[this.decoder.outputNames[0]!]!.data as ArrayLike<number>;
    const plane = pixels.length / 3;
    const width = Math.round(Math.sqrt(plane));
    const data = new Uint8Array(3 * plane);
    for (let i = 0; i < plane; i++)
      for (let c = 0; c < 3; c++)
        data[3 * i + c] = Math.max(0, Math.min(255, Math.round(255 * pixels[c * plane + i]!)));
    return { width, height: plane / width, data };
  }

  /** Every picture has side * side codes. */
  rule(length: number): { begin: number; end: number; mayEnd: boolean } {
    const whole = length >= this.state.side ** 2;
    return { begin: 0, end: whole ? 0 : this.size, mayEnd: whole };
  }
}

const onnxImage: ModalityModule<Picture, State> = {
  create({ options }) {
    const given = options as Options;
    return { ...given, sha256: [hash(given.encoder), hash(given.decoder)] };
  },
  async load(state) {
    const { encoder, decoder, runtime = 'onnxruntime-node', sha256 } = state;
    if (hash(encoder) !== sha256[0] || hash(decoder) !== sha256[1])
      throw new Error(`${encoder} and ${decoder} are not the models that the data set was prepared with`);
    const imported = (await import(runtime)) as OnnxRuntime & { default?: OnnxRuntime };
    const ort = imported.default ?? imported;
    const [encode, decode] = await Promise.all([encoder, decoder].map((path) => ort.InferenceSession.create(path)));
    return new OnnxImageTokenizer(ort, encode!, decode!, state);
  },
};

export default onnxImage;
