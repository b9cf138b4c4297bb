import { isPredicted, type Document } from '../model/batch.js';

/**
 * Unigram and bigram models of tokens: the lines that a trained model has to be under. They are judged on the model's own
 * targets: every token of a document but the first, and but those at and after patches, pooled by the modality of the
 * predicted token.
 *
 * Unigram: p(b) = (c(b) + alpha) / (N + alpha V).
 * Bigram, absolute discounting interpolated with the unigram: p(b|a) = (max(c(ab) - d, 0) + d n(a) p(b)) / c(a), with
 * n(a) the number of different tokens seen after a; p(b) where a was never seen.
 */

/** Smoothing of both models. */
export interface Smoothing {
  /** Added to every unigram count; > 0. */
  alpha: number;
  /** Taken from every bigram count; in (0, 1). */
  discount: number;
}

/** Cross-entropies in nats a token. */
export interface Baseline {
  unigram: number;
  bigram: number;
}

const ALPHAS = [0.001, 0.01, 0.1, 0.3, 1, 3];
const DISCOUNTS = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97];
/** Training documents held back to tune the smoothing: one in so many. */
const HELD_BACK = 20;

/** Counts of tokens and of pairs of neighbours within documents. */
export class NgramCounts {
  readonly #vocabulary: number;
  /** c(ab) by a * V + b. */
  readonly #pairs = new Map<number, number>();
  /** Predicted tokens c(b), tokens as contexts c(a), and n(a); each [V]. */
  readonly #count: Float64Array;
  readonly #context: Float64Array;
  readonly #different: Float64Array;
  #total = 0;

  /** @param vocabulary V: all ids are below it. */
  constructor(vocabulary: number) {
    this.#vocabulary = vocabulary;
    this.#count = new Float64Array(vocabulary);
    this.#context = new Float64Array(vocabulary);
    this.#different = new Float64Array(vocabulary);
  }

  add(document: Document): void {
    const { token } = document;
    for (let i = 1; i < token.length; i++) {
      if (!isPredicted(document, i)) continue;
      const a = token[i - 1]!;
      const b = token[i]!;
      const pair = a * this.#vocabulary + b;
      const before = this.#pairs.get(pair) ?? 0;
      this.#pairs.set(pair, before + 1);
      if (before === 0) this.#different[a]!++;
      this.#count[b]!++;
      this.#context[a]!++;
      this.#total++;
    }
  }

  /** p(b) with `alpha` added to every count. */
  unigram(b: number, alpha: number): number {
    return (this.#count[b]! + alpha) / (this.#total + alpha * this.#vocabulary);
  }

  /** p(b|a). */
  bigram(a: number, b: number, { alpha, discount }: Smoothing): number {
    const lower = this.unigram(b, alpha);
    const context = this.#context[a]!;
    if (context === 0) return lower;
    const pair = this.#pairs.get(a * this.#vocabulary + b) ?? 0;
    return (Math.max(pair - discount, 0) + discount * this.#different[a]! * lower) / context;
  }
}

/** Cross-entropies by modality of the predicted token [modalities]; NaN where there are no targets. */
export function crossEntropies(
  counts: NgramCounts,
  documents: readonly Document[],
  smoothing: readonly Smoothing[],
): Baseline[] {
  const sums = smoothing.map(() => ({ unigram: 0, bigram: 0, targets: 0 }));
  for (const document of documents) {
    const { token, modality } = document;
    for (let i = 1; i < token.length; i++) {
      if (!isPredicted(document, i)) continue;
      const m = modality[i]!;
      const sum = sums[m]!;
      sum.unigram -= Math.log(counts.unigram(token[i]!, smoothing[m]!.alpha));
      sum.bigram -= Math.log(counts.bigram(token[i - 1]!, token[i]!, smoothing[m]!));
      sum.targets++;
    }
  }
  return sums.map(({ unigram, bigram, targets }) => ({ unigram: unigram / targets, bigram: bigram / targets }));
}

/**
 * Fits both models to a stream of training documents. One document in twenty is held back to tune the smoothing of each
 * modality, and counted afterwards.
 */
export class BaselineFitter {
  readonly #counts: NgramCounts;
  readonly #modalities: readonly string[];
  readonly #heldBack: Document[] = [];
  #documents = 0;

  constructor(vocabulary: number, modalities: readonly string[]) {
    this.#counts = new NgramCounts(vocabulary);
    this.#modalities = modalities;
  }

  add(document: Document): void {
    this.#documents++;
    if (this.#documents % HELD_BACK === 0) this.#heldBack.push(document);
    else this.#counts.add(document);
  }

  /** Ends the fit; the result judges the models on other documents, by name of the modality. */
  finish(): (documents: readonly Document[]) => Record<string, Baseline> {
    const counts = this.#counts;
    const smoothing = tuneSmoothing(counts, this.#heldBack, this.#modalities.length);
    for (const document of this.#heldBack) counts.add(document);
    return (documents) => {
      const entropies = crossEntropies(counts, documents, smoothing);
      const judged = this.#modalities.map((name, m) => [name, entropies[m]!] as const);
      return Object.fromEntries(judged.filter(([, { bigram }]) => !Number.isNaN(bigram)));
    };
  }
}

/** The smoothing of each modality under which the bigram model serves the documents best: discounts first, then alphas. */
function tuneSmoothing(counts: NgramCounts, documents: readonly Document[], modalities: number): Smoothing[] {
  let best: Smoothing[] = Array.from({ length: modalities }, () => ({ alpha: 0.3, discount: 0.5 }));
  const choose = (candidates: Smoothing[][]): void => {
    const judged = candidates.map((smoothing) => ({
      smoothing,
      entropies: crossEntropies(counts, documents, smoothing),
    }));
    best = best.map((current, m) => {
      let lowest = { bigram: Infinity, smoothing: current };
      for (const { smoothing, entropies } of judged) {
        const { bigram } = entropies[m]!;
        if (bigram < lowest.bigram) lowest = { bigram, smoothing: smoothing[m]! };
      }
      return lowest.smoothing;
    });
  };
  choose(DISCOUNTS.map((discount) => best.map(({ alpha }) => ({ alpha, discount }))));
  choose(ALPHAS.map((alpha) => best.map(({ discount }) => ({ alpha, discount }))));
  return best;
}
