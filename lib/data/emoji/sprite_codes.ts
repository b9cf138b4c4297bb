import type { ImageTokenizer } from '../../modalities/image/patch_codebook.js';
import { drawOver, fillSquare, HALF, plainPicture, SIDE, type Sprite } from './render.js';
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

/** Pixels of the corners of the quarters of a picture; the colours are a multiple of them. */
const QUARTERS = [
  [0, 0],
  [HALF, 0],
  [0, HALF],
  [HALF, HALF],
] as const;

/** Ids of a sprite on every background. */
export function encodeSprite(tokenizer: ImageTokenizer, sprite: Sprite): SpriteCodes {
  const codes: SpriteCodes = { full: [], half: [] };
  for (const { rgb } of COLOURS) {
    const full = plainPicture(rgb);
    drawOver(full, sprite.full, SIDE, 0, 0);
    codes.full.push(encode(tokenizer, full));
  }
  // Half sprites, four to a picture: each quarter has its own background.
  for (let first = 0; first < COLOURS.length; first += QUARTERS.length) {
    const picture = new Uint8Array(SIDE * SIDE * 3);
    QUARTERS.forEach(([left, top], i) => {
      fillSquare(picture, COLOURS[first + i]!.rgb, HALF, left, top);
      drawOver(picture, sprite.half, HALF, left, top);
    });
    const ids = encode(tokenizer, picture);
    for (const [left, top] of QUARTERS) codes.half.push(quarterAt(tokenizer, ids, left, top));
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
    placeQuarter(tokenizer, ids, codes[glyph]!.half[scene.colour]!, left, top);
  });
  return ids;
}

function encode(tokenizer: ImageTokenizer, data: Uint8Array): Int32Array {
  return tokenizer.encode({ width: SIDE, height: SIDE, data });
}

/** Ids of the patches of the quarter of a picture with this corner, row by row. */
function quarterAt(tokenizer: ImageTokenizer, ids: Int32Array, left: number, top: number): Int32Array {
  const quarter = new Int32Array(ids.length / 4);
  eachQuarterRow(tokenizer, left, top, (whole, part, width) => quarter.set(ids.subarray(whole, whole + width), part));
  return quarter;
}

/** Puts a quarter's ids in their place in a picture's. */
function placeQuarter(
  tokenizer: ImageTokenizer,
  ids: Int32Array,
  quarter: Int32Array,
  left: number,
  top: number,
): void {
  eachQuarterRow(tokenizer, left, top, (whole, part, width) => ids.set(quarter.subarray(part, part + width), whole));
}

/** For each row of patches of a quarter: where its ids begin among those of the picture and of the quarter, and how many. */
function eachQuarterRow(
  { grid, stages }: ImageTokenizer,
  left: number,
  top: number,
  use: (whole: number, part: number, width: number) => void,
): void {
  const width = (grid.side / 2) * stages;
  const corner = ((top / grid.patchSize) * grid.side + left / grid.patchSize) * stages;
  for (let y = 0; y < grid.side / 2; y++) use(corner + y * 2 * width, y * width, width);
}
