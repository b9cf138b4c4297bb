/*
 * Reading tar files as a stream: ustar with the pax and GNU ways of writing long names. Nothing is ever written to disk,
 * so names are only names; those that lead out of the archive are refused all the same.
 */

const BLOCK = 512;
/** Bytes of a pax header or long name at most. */
const LONGEST_HEADER = 1 << 20;

/** A member of an archive. */
export interface TarMember {
  name: string;
  size: number;
  /** Content of a regular file; undefined when it is larger than the limit, or `reason` says why. */
  bytes?: Uint8Array;
  /** Why it cannot be used. */
  reason?: string;
  /** The archive cannot be read beyond it. */
  last?: true;
}

/** Bytes in order, as much as asked for. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #left: Buffer = Buffer.alloc(0);
  /** Bytes taken. */
  offset = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next `size` bytes, fewer at the end of the file. */
  async read(size: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let missing = size;
    while (missing > 0) {
      if (this.#left.length === 0 && !(await this.#more())) break;
      const part = this.#left.subarray(0, missing);
      this.#left = this.#left.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    this.offset += size - missing;
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Passes over `size` bytes; false when the file ends before. */
  async skip(size: number): Promise<boolean> {
    let missing = size;
    while (missing > 0) {
      if (this.#left.length === 0 && !(await this.#more())) break;
      const part = Math.min(missing, this.#left.length);
      this.#left = this.#left.subarray(part);
      missing -= part;
    }
    this.offset += size - missing;
    return missing === 0;
  }

  async #more(): Promise<boolean> {
    const { value, done } = await this.#chunks.next();
    if (done) return false;
    this.#left = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
    return true;
  }
}

/**
 * The members of an archive that are files, in their order, and what is wrong with others. Where the archive is broken,
 * the last one says so; its name is '' unless it is known in which member that is.
 *
 * @param limit Bytes of a member at most.
 */
export async function* tarMembers(chunks: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<TarMember> {
  const reader = new ByteReader(chunks);
  let longName: string | undefined;
  let longSize: number | undefined;
  const broken = (reason: string, name = ''): TarMember => ({ name, size: 0, reason, last: true });
  try {
    for (;;) {
      const header = await reader.read(BLOCK);
      // Two blocks of zeros end an archive; many writers leave them out.
      if (header.length === 0) return;
      if (header.length < BLOCK) return yield broken('the archive is cut short');
      if (header.every((byte) => byte === 0)) {
        const second = await reader.read(BLOCK);
        if (second.every((byte) => byte === 0)) return;
        return yield broken(`the archive is broken at byte ${reader.offset - BLOCK}`);
      }
      if (!hasRightSum(header)) return yield broken(`the archive is broken at byte ${reader.offset - BLOCK}`);
      const type = String.fromCharCode(header[156]!);
      const stated = numberField(header, 124, 12);
      const size = longSize ?? stated;
      if (!Number.isSafeInteger(size) || size < 0)
        return yield broken(`the archive is broken at byte ${reader.offset - BLOCK}`);
      const padding = (BLOCK - (size % BLOCK)) % BLOCK;
      if ('xLgK'.includes(type)) {
        if (stated > LONGEST_HEADER) return yield broken(`a header of ${stated} bytes is too long`);
        const content = await reader.read(stated);
        if (content.length < stated || !(await reader.skip((BLOCK - (stated % BLOCK)) % BLOCK)))
          return yield broken('the archive is cut short');
        if (type === 'L') longName = textField(content, 0, content.length);
        if (type === 'x') {
          const pax = paxFields(content);
          longName = pax.get('path') ?? longName;
          const paxSize = pax.get('size');
          if (paxSize !== undefined) longSize = /^\d{1,15}$/.test(paxSize) ? Number(paxSize) : NaN;
        }
        continue;
      }
      const name = longName ?? plainName(header);
      longName = undefined;
      longSize = undefined;
      const regular = type === '0' || type === '\0' || type === '7';
      if (!regular) {
        if (!(await reader.skip(size + padding))) return yield broken('the archive is cut short');
        // Folders are no documents; links and devices are nothing that can be read.
        if (type !== '5') yield { name, size, reason: 'it is a link or device, not a file' };
        continue;
      }
      if (size > limit || leadsOut(name)) {
        const reason = leadsOut(name)
          ? 'its name leads out of the archive'
          : `it has ${size} bytes, more than limits.file_mb allows`;
        yield { name, size, reason };
        if (!(await reader.skip(size + padding))) return yield broken('the archive is cut short');
        continue;
      }
      const bytes = await reader.read(size);
      if (bytes.length < size) return yield broken('the archive is cut short within it', name);
      yield { name, size, bytes };
      if (!(await reader.skip(padding))) return;
    }
  } catch (error) {
    yield broken(`the archive cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function leadsOut(name: string): boolean {
  return name.startsWith('/') || /^[a-z]:/i.test(name) || name.split(/[/\\]/).includes('..');
}

function plainName(header: Buffer): string {
  const name = textField(header, 0, 100);
  const prefix = header.toString('latin1', 257, 262) === 'ustar' ? textField(header, 345, 155) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function textField(bytes: Buffer, offset: number, length: number): string {
  const field = bytes.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? field.length : end);
}

/** Octal digits, or base 256 where the first bit is set. NaN for anything else. */
function numberField(header: Buffer, offset: number, length: number): number {
  if (header[offset]! & 0x80) {
    let value = header[offset]! & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + header[offset + i]!;
    return value;
  }
  const text = textField(header, offset, length).trim();
  return text === '' ? 0 : /^[0-7]+$/.test(text) ? parseInt(text, 8) : NaN;
}

/** The sum of a header's bytes, its own field taken as spaces. */
function hasRightSum(header: Buffer): boolean {
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i]!;
  return numberField(header, 148, 8) === sum;
}

/** `LENGTH KEY=VALUE\n`, one after the other. */
function paxFields(content: Buffer): Map<string, string> {
  const fields = new Map<string, string>();
  for (let at = 0; at < content.length;) {
    const space = content.indexOf(32, at);
    const length = Number(content.toString('latin1', at, Math.max(space, at)));
    if (!Number.isInteger(length) || length < 5 || at + length > content.length) break;
    const record = content.toString('utf8', space + 1, at + length - 1);
    const equals = record.indexOf('=');
    fields.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return fields;
}
