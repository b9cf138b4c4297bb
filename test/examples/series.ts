// A modality of one's own in one file: time series as quantised values. lib/modalities/README.md explains it, and
// test/data/own/modules.test.ts prepares, trains and generates with it. In a project of yours the import is
// 'mixture-of-transformers'.
import type { AsyncTokenizer, ModalityModule } from '../../lib/index.js';

/** What the data set keeps: numbers between low and high fall into bins of equal width. */
interface Bins {
  low: number;
  high: number;
  bins: number;
}

class SeriesTokenizer implements AsyncTokenizer<number[]> {
  readonly size: number;
  constructor(private readonly state: Bins) {
    this.size = state.bins;
  }

  /** One id a number; those outside the range fall into the first or last bin. */
  encode(series: number[]): Int32Array {
    const { low, high, bins } = this.state;
    return Int32Array.from(series, (x) =>
      Math.min(bins - 1, Math.max(0, Math.floor(((x - low) / (high - low)) * bins))),
    );
  }

  /** The middle of each bin. */
  decode(ids: ArrayLike<number>): number[] {
    const { low, high, bins } = this.state;
    return Array.from(ids, (id) => low + ((id + 0.5) / bins) * (high - low));
  }

  /** Any number may follow any other, and a series may end after its first. */
  rule(length: number): { begin: number; end: number; mayEnd: boolean } {
    return { begin: 0, end: this.size, mayEnd: length > 0 };
  }
}

const series: ModalityModule<number[], Bins> = {
  /** Learns the range that holds all but one in a thousand numbers. Option: `bins`, 64 by default. */
  create({ samples, options }) {
    const { bins = 64 } = (options ?? {}) as { bins?: number };
    if (!Number.isInteger(bins) || bins < 2) throw new Error(`bins must be a whole number of at least 2, got ${bins}`);
    const sorted = samples.flat().sort((a, b) => a - b);
    const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))]!;
    const [low, high] = [at(0.0005), at(0.9995)];
    return { low, high: high > low ? high : low + 1, bins };
  },
  load: (state) => new SeriesTokenizer(state),
  parse(value) {
    if (!Array.isArray(value) || !value.every((x) => typeof x === 'number' && Number.isFinite(x)))
      throw new Error('a series is a list of finite numbers');
    return value as number[];
  },
};

export default series;
