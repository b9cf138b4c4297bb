import { MotError } from '../errors.js';
import type { Batch, Document } from '../model/batch.js';

/** Images of a document: the runs of places with patches, [first, behind the last). */
export function imageSpans(patchRow: ArrayLike<number>): [first: number, end: number][] {
  const spans: [number, number][] = [];
  for (let i = 0; i < patchRow.length; i++) {
    if (patchRow[i]! < 0) continue;
    const open = spans.at(-1);
    if (open?.[1] === i) open[1]++;
    else spans.push([i, i + 1]);
  }
  return spans;
}

/**
 * Checks that the latents of a document fit its tokens: every row stands at one place, noise has as many numbers, and
 * there is a timestep for each image.
 *
 * @throws MotError ERR_DATA.
 */
export function checkLatents({ token, latent, patchRow, noise, timestep }: Document): void {
  const fail = (sentence: string): never => {
    throw new MotError('ERR_DATA', `a document with latents ${sentence}`);
  };
  if (latent === undefined && patchRow === undefined) {
    if (noise !== undefined || timestep !== undefined)
      fail('was expected: this one has noise or timesteps without them');
    return;
  }
  if (latent === undefined || patchRow === undefined || patchRow.length !== token.length)
    return fail(`needs patchRow, one entry for each of its ${token.length} tokens, and the latents themselves`);
  const rows = patchRow.filter((row) => row >= 0);
  const distinct = new Set(rows).size === rows.length && rows.every((row) => row < rows.length);
  if (!distinct || (rows.length === 0 ? latent.length > 0 : latent.length % rows.length !== 0))
    fail(`needs each row at one place: it has ${rows.length} patches and ${latent.length} numbers`);
  if (noise !== undefined && noise.length !== latent.length)
    fail(`has ${latent.length} numbers and noise of ${noise.length}; give as many`);
  const images = imageSpans(patchRow).length;
  if (timestep !== undefined && timestep.length !== images)
    fail(`has ${images} images and ${timestep.length} timesteps; give one for each`);
}

/**
 * The latents of documents as a batch has them, in the order of their places; nothing where there are none. Either
 * all documents with patches have noise or none: an image without noise has no loss.
 *
 * @throws MotError ERR_DATA.
 */
export function joinLatents(
  documents: readonly Document[],
): Pick<Batch, 'patchRow' | 'latent' | 'noise' | 'imageOfRow' | 'timestep'> {
  const numbers = documents.reduce((sum, { latent }) => sum + (latent?.length ?? 0), 0);
  if (numbers === 0) return {};
  const tokens = documents.reduce((sum, { token }) => sum + token.length, 0);
  const noised = documents.some(({ noise }) => noise !== undefined && noise.length > 0);
  const patchRow = new Int32Array(tokens).fill(-1);
  const latent = new Float32Array(numbers);
  const noise = new Float32Array(noised ? numbers : 0);
  const imageOfRow: number[] = [];
  const timestep: number[] = [];
  let place = 0;
  let at = 0;
  for (const document of documents) {
    const { token } = document;
    const patches = document.patchRow ?? new Int32Array(0);
    const firstRow = imageOfRow.length;
    imageSpans(patches).forEach(([first, end], image) => {
      for (let i = first; i < end; i++) {
        patchRow[place + i] = firstRow + patches[i]!;
        imageOfRow[firstRow + patches[i]!] = timestep.length;
      }
      timestep.push(document.timestep?.[image] ?? 0);
    });
    if (document.latent && document.latent.length > 0) {
      if (noised && document.noise === undefined)
        throw new MotError(
          'ERR_DATA',
          'some documents of a batch have noise and some have none; give it to all or none',
        );
      latent.set(document.latent, at);
      if (document.noise) noise.set(document.noise, at);
      at += document.latent.length;
    }
    place += token.length;
  }
  return {
    patchRow,
    latent,
    ...(noised ? { noise } : {}),
    imageOfRow: Int32Array.from(imageOfRow),
    timestep: Int32Array.from(timestep),
  };
}
