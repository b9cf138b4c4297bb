import { Tokenizer as HubModel } from '@huggingface/tokenizers';
import { MotError } from '../../errors.js';
import type { SpanRule, Tokenizer } from '../tokenizer.js';

/**
 * Any tokenizer of a Hugging Face `tokenizer.json`, with the ids of the reference library. Ids that the file leaves out
 * decode to nothing. Special tokens that stand in a text are single ids; none are added to it.
 */
export class HubTextTokenizer implements Tokenizer<string> {
  readonly modality = 'text';
  readonly size: number;
  /** The file as it was read. */
  readonly json: string;
  readonly #model: HubModel;

  /** @throws MotError ERR_FILE_FORMAT. */
  constructor(json: string) {
    this.json = json;
    try {
      this.#model = new HubModel(JSON.parse(json) as object, {});
    } catch (cause) {
      throw new MotError('ERR_FILE_FORMAT', `tokenizer.json cannot be used: ${(cause as Error).message}`, { cause });
    }
    let size = 0;
    for (const id of this.#model.get_vocab(true).values()) size = Math.max(size, id + 1);
    if (size === 0) throw new MotError('ERR_FILE_FORMAT', 'tokenizer.json has no tokens');
    this.size = size;
  }

  encode(text: string): Int32Array {
    if (text === '') return new Int32Array();
    return Int32Array.from(this.#model.encode(text, { add_special_tokens: false }).ids);
  }

  decode(ids: ArrayLike<number>): string {
    const list = Array.from(ids);
    list.forEach((id, at) => {
      if (!(id >= 0 && id < this.size))
        throw new MotError('ERR_ARGUMENT', `text id ${id} at ${at} is not in [0, ${this.size})`);
    });
    const known = list.filter((id) => this.#model.id_to_token(id) !== undefined);
    if (known.length === 0) return '';
    return this.#model.decode(known, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  /** Anything, and the text may end anywhere. */
  rule(): SpanRule {
    return { begin: 0, end: this.size, mayEnd: true };
  }
}
