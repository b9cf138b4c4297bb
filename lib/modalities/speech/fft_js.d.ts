/** The part of fft.js that is used; the package has no types. Complex numbers are pairs (re, im). */
declare module 'fft.js' {
  export default class FFT {
    /** `size` is a power of two. */
    constructor(size: number);
    createComplexArray(): number[];
    /** `input` [size] to the first half of `output` [2 * size]. */
    realTransform(output: number[], input: ArrayLike<number>): void;
    /** Fills the second half of a real signal's spectrum from the first. */
    completeSpectrum(spectrum: number[]): void;
    inverseTransform(output: number[], input: number[]): void;
  }
}
