import type { ImageTokenizer } from '../../modalities/image/patch_codebook.js';
import { drawOver, HALF, plainPicture, SIDE, type Sprite } from './render.js';
import { COLOURS, type Scene } from './scene.js';

/**
 * Ids of a sprite on each background: `full` [colours][ids of a picture], `half` [colours][ids of a quarter of one].
 * Sprites stand on whole patches and a patch's ids depend on its pixels alone, so the ids of any scene are put together
 * from these.
 */
export interface SpriteCodes {
  full: Int32Array[];
  half: Int32Array[];
}

/** Pixels of the corners of the sprites of each layout. */
const CORNERS: Record<Scene['layout'], readonly (readonly [left: number, top: number])[]> = {
  single: [[0, 0]],
  beside: [
    [0, HALF / 2],
    [HALF, HALF / 2],
  ],
  stacked: [
    [HALF / 2, 0],
    [HALF / 2, HALF],
  ],
};

/** The picture of a scene: RGB [32, 32, 3]. */
export function drawScene(scene: Scene, sprites: readonly Sprite[]): Uint8Array {
  const picture = plainPicture(COLOURS[scene.colour]!.rgb);
  scene.glyphs.forEach((glyph, i) => {
    const [left, top] = CORNERS[scene.layout][i]!;
    const { full, half } = sprites[glyph]!;
    if (scene.layout === 'single') drawOver(picture, full, SIDE, left, top);
    else drawOver(picture, half, HALF, left, top);
  });
  return picture;
}

/** Ids of a sprite on every background. */
export function encodeSprite(tokenizer: ImageTokenizer, sprite: Sprite): SpriteCodes {
  const codes: SpriteCodes = { full: [], half: [] };
  for (const { rgb } of COLOURS) {
    const full = plainPicture(rgb);
    drawOver(full, sprite.full, SIDE, 0, 0);
    codes.full.push(encode(tokenizer, full));
    const half = plainPicture(rgb);
    drawOver(half, sprite.half, HALF, 0, 0);
    codes.half.push(block(tokenizer, encode(tokenizer, half)));
  }
  return codes;
}

/** Ids of the plain backgrounds. */
export function encodeBackgrounds(tokenizer: ImageTokenizer): Int32Array[] {
  return COLOURS.map(({ rgb }) => encode(tokenizer, plainPicture(rgb)));
}

/** Ids of a scene's picture: what `tokenizer.encode(drawScene(scene))` gives. */
export function sceneIds(
  tokenizer: ImageTokenizer,
  scene: Scene,
  codes: readonly SpriteCodes[],
  backgrounds: readonly Int32Array[],
): Int32Array {
  if (scene.layout === 'single') return codes[scene.glyphs[0]!]!.full[scene.colour]!;
  const ids = backgrounds[scene.colour]!.slice();
  scene.glyphs.forEach((glyph, i) => {
    const [left, top] = CORNERS[scene.layout][i]!;
    placeBlock(tokenizer, ids, codes[glyph]!.half[scene.colour]!, left, top);
  });
  return ids;
}

function encode(tokenizer: ImageTokenizer, data: Uint8Array): Int32Array {
  return tokenizer.encode({ width: SIDE, height: SIDE, data });
}

/** Ids of the patches of the upper left quarter, row by row. */
function block(tokenizer: ImageTokenizer, ids: Int32Array): Int32Array {
  const row = rowOf(tokenizer);
  const width = row / 2;
  const result = new Int32Array(ids.length / 4);
  for (let y = 0; y < tokenizer.grid.side / 2; y++) result.set(ids.subarray(y * row, y * row + width), y * width);
  return result;
}

function placeBlock(tokenizer: ImageTokenizer, ids: Int32Array, part: Int32Array, left: number, top: number): void {
  const row = rowOf(tokenizer);
  const width = row / 2;
  const { patchSize, side } = tokenizer.grid;
  const corner = (top / patchSize) * row + (left / patchSize) * tokenizer.stages;
  for (let y = 0; y < side / 2; y++) ids.set(part.subarray(y * width, (y + 1) * width), corner + y * row);
}

/** Ids of a row of patches. */
function rowOf(tokenizer: ImageTokenizer): number {
  return tokenizer.grid.side * tokenizer.stages;
}
