import type { SceneReference, SceneReferences } from '../data/emoji/scene_references.js';
import type { PrepareProgress } from '../data/prepare_progress.js';
import type { Generator, OnDone } from '../generate/generator.js';
import type { OpenedRun } from '../generate/open_run.js';
import { roundTrip } from '../modalities/registry.js';
import type { Picture } from '../modalities/tokenizer.js';
import { bootstrapRatio, nearestReference, normalisedEditDistance, wilson, type Estimate } from './metrics.js';
import { conceptRank, type Renderings } from './retrieval.js';

/** Whether the concept of a scene is the nearest to a picture, or among the five nearest. */
export interface Retrieval {
  top1: Estimate;
  top5: Estimate;
}

/** What a model generates of scenes of one emoji. A metric is missing where the model lacks the modality. */
export interface SceneMetrics {
  /** From caption to picture: is the scene's concept the nearest, by pixels, among all concepts on its background? */
  retrieval?: Retrieval & {
    concepts: number;
    /** The same of a picture that has nothing to do with its caption. */
    chance: { top1: number; top5: number };
    /** The same of the true pictures as the model's tokens show them: the best it can do. */
    ceiling: Retrieval;
  };
  /** From picture to caption, each judged by the phrasing that is nearest to it. */
  captions?: {
    exact: Estimate;
    /** Captions of the right concept, in whatever style on whatever background. */
    concept: Estimate;
    /** Edits of characters over the length of the longer one; mean. */
    editDistance: Estimate;
  };
  /** From caption to speech: edits of units over units of the true speech, of the voice that is nearest. */
  speech?: { unitErrorRate: Estimate };
}

interface SceneEvaluation {
  seed: number;
  progress: PrepareProgress;
  skip(metric: string, reason: string): void;
}

/** Lets a model draw, name and speak the first `count` scenes of a split. */
export async function evaluateScenes(
  references: SceneReferences,
  split: 'validation' | 'heldout',
  count: number,
  generator: Generator,
  { tokenizers, codecs }: Pick<OpenedRun, 'tokenizers' | 'codecs'>,
  { seed, progress, skip }: SceneEvaluation,
): Promise<SceneMetrics> {
  const scenes = references.scenes(split, count);
  const metrics: SceneMetrics = {};
  const staged = async <T>(what: string, units: number, work: (onDone: OnDone) => Promise<T>): Promise<T> => {
    const stage = progress.stage(`${split}: ${what}`, units);
    const result = await work(() => stage.advance());
    stage.end();
    return result;
  };
  const captions = scenes.map(({ caption }) => caption);
  const pictures = scenes.map(({ picture }) => picture);

  if (tokenizers['image'] ?? codecs['image']) {
    const drawn = await staged('drawing', scenes.length, (onDone) => generator.draw(captions, onDone));
    metrics.retrieval = retrieval(references, scenes, drawn, (picture) =>
      roundTrip('image', picture, tokenizers, codecs),
    );
    const named = await staged('naming', scenes.length, (onDone) => generator.name(pictures, onDone));
    metrics.captions = judgeCaptions(scenes, named, (concept) => references.captionsOf(concept), seed);
  } else {
    skip(`${split}: retrieval, captions`, 'the model has no pictures.');
  }

  const spoken = scenes.filter((scene) => scene.spoken);
  if (!tokenizers['speech']) skip(`${split}: speech`, 'the model has no speech.');
  else if (spoken.length === 0) skip(`${split}: speech`, 'no concept of these scenes has a spoken name.');
  else {
    const truth = await references.units(
      spoken.map((scene) => scene.spoken!),
      tokenizers['speech'],
      progress,
    );
    const texts = spoken.map(({ caption }) => caption);
    const units = await staged('speaking', spoken.length, (onDone) => generator.speak(texts, onDone));
    metrics.speech = { unitErrorRate: unitErrorRate(units, truth, seed) };
  }
  return metrics;
}

function retrieval(
  references: SceneReferences,
  scenes: readonly SceneReference[],
  drawn: readonly Picture[],
  shown: (picture: Picture) => Picture,
): NonNullable<SceneMetrics['retrieval']> {
  const ceiling = scenes.map(({ picture }) => shown(picture));
  const renderingsOf = memo((colour: number) => references.renderings(colour));
  const { concepts } = references;
  return {
    ...retrievalRates(scenes, drawn, renderingsOf),
    concepts,
    chance: { top1: 1 / concepts, top5: Math.min(1, 5 / concepts) },
    ceiling: retrievalRates(scenes, ceiling, renderingsOf),
  };
}

/** Retrieval of pictures, one a scene, among the renderings on each scene's background. */
export function retrievalRates(
  scenes: readonly Pick<SceneReference, 'concept' | 'scene'>[],
  pictures: readonly Picture[],
  renderingsOf: (colour: number) => Renderings,
): Retrieval {
  const ranks = scenes.map(({ concept, scene }, i) =>
    conceptRank(pictures[i]!.data, concept, renderingsOf(scene.colour)),
  );
  const within = (k: number): Estimate => wilson(ranks.filter((rank) => rank < k).length, ranks.length);
  return { top1: within(1), top5: within(5) };
}

/** Captions against the scenes that they should describe, in whatever phrasing. `captionsOf`: all that name a concept. */
export function judgeCaptions(
  scenes: readonly Pick<SceneReference, 'concept' | 'phrasings'>[],
  captions: readonly string[],
  captionsOf: (concept: number) => ReadonlySet<string>,
  seed: number,
): NonNullable<SceneMetrics['captions']> {
  const distances = scenes.map(({ phrasings }, i) =>
    Math.min(...phrasings.map((phrasing) => normalisedEditDistance(captions[i]!, phrasing))),
  );
  return {
    exact: wilson(distances.filter((distance) => distance === 0).length, distances.length),
    concept: wilson(scenes.filter(({ concept }, i) => captionsOf(concept).has(captions[i]!)).length, scenes.length),
    editDistance: bootstrapRatio(
      distances,
      distances.map(() => 1),
      seed,
    ),
  };
}

/** Speech units, repeats removed, against the true ones of each voice. */
export function unitErrorRate(
  units: readonly (readonly number[])[],
  truth: readonly (readonly (readonly number[])[])[],
  seed: number,
): Estimate {
  const once = (sequence: readonly number[]): number[] => sequence.filter((unit, i) => unit !== sequence[i - 1]);
  const nearest = units.map((sequence, i) => nearestReference(once(sequence), truth[i]!.map(once)));
  return bootstrapRatio(
    nearest.map(({ distance }) => distance),
    nearest.map(({ length }) => length),
    seed,
  );
}

function memo<K, V>(compute: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>();
  return (key) => {
    if (!known.has(key)) known.set(key, compute(key));
    return known.get(key)!;
  };
}
