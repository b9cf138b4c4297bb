/** Pictures [pixels, 3] of concepts that a picture is compared with. */
export interface Renderings {
  pictures: readonly Uint8Array[];
  /** Concept of each. */
  concepts: readonly number[];
}

/**
 * Rank of a concept among those of the renderings by how near its nearest rendering is to a picture (sum of squared
 * differences of pixels): 0 where no other concept is nearer. Equally near ones rank by their index.
 */
export function conceptRank(picture: Uint8Array, concept: number, { pictures, concepts }: Renderings): number {
  const nearest = new Map<number, number>();
  pictures.forEach((rendering, i) => {
    const of = concepts[i]!;
    const distance = squaredDistance(picture, rendering);
    if (distance < (nearest.get(of) ?? Infinity)) nearest.set(of, distance);
  });
  const own = nearest.get(concept) ?? Infinity;
  let rank = 0;
  for (const [other, distance] of nearest) if (distance < own || (distance === own && other < concept)) rank++;
  return rank;
}

function squaredDistance(a: Uint8Array, b: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return sum;
}
