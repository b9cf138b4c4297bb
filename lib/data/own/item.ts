import { createHash } from 'node:crypto';

/** A picture or sound: its bytes, or the path of a file. */
export type Media = { bytes: Uint8Array } | { path: string };

/** One segment as a source has it; nothing is decoded yet. */
export type RawSegment = { text: string } | { image: Media } | { audio: Media } | { own: OwnValue };

/** A value of a modality of the user's own, as it stands in JSON. */
export interface OwnValue {
  modality: string;
  value: unknown;
}

/** Where an item stands in its file. */
export interface Place {
  /** The file, where it is not that of the task. */
  file?: string;
  /** Line, from 0 at the beginning of the task. */
  line?: number;
  /** Key or member of a tar file. */
  member?: string;
  /** Row of a Parquet file, from 0. */
  row?: number;
}

/** A document as a source has it. */
export interface Item {
  place: Place;
  segments: RawSegment[];
  /** Items of one key go to the same split. Default: the content. */
  key?: string;
}

/** An item that cannot be used, and why. */
export interface Skip {
  place: Place;
  reason: string;
}

export function isSkip(entry: Item | Skip): entry is Skip {
  return 'reason' in entry;
}

/** Numbers in [0, 1) that follow from (seed, key or content) of an item alone. */
export class ItemHash {
  readonly #digest: Buffer;
  /** Of the content, whatever the key: draws that differ between items of one key. */
  readonly #content: Buffer;

  constructor(item: Item, seed: number) {
    const content = createHash('sha256').update(`${seed}\0`);
    for (const segment of item.segments) {
      const [kind, value] = Object.entries(segment)[0] as [string, string | Media | OwnValue];
      content.update(`${kind}\0`);
      if (typeof value === 'string') content.update(value);
      else if ('modality' in value) content.update(JSON.stringify(value));
      else content.update('path' in value ? value.path : value.bytes);
      content.update('\0');
    }
    this.#content = content.digest();
    this.#digest =
      item.key === undefined ? this.#content : createHash('sha256').update(`${seed}\0key\0${item.key}`).digest();
  }

  /** Decides the split. */
  get split(): number {
    return this.#digest.readUIntBE(0, 6) / 2 ** 48;
  }

  /** Decides how often the item stands in the training split. */
  get copies(): number {
    return this.#content.readUIntBE(6, 6) / 2 ** 48;
  }

  /** The list in an order of its own. */
  shuffle<T>(list: readonly T[]): T[] {
    const result = [...list];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.#content.readUInt32BE(12 + 4 * (i % 5)) % (i + 1);
      [result[i], result[j]] = [result[j]!, result[i]!];
    }
    return result;
  }
}
