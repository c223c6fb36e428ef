// A sorted list in memory that stays fast at a hundred thousand items: chunks of at most CHUNK items, so that an
// insert or removal moves one short array. Invariant: no chunk is empty, and items ascend over all chunks.
import { PawlError } from "../base/errors.ts";

/** Negative when the item stands before the wanted place, zero or positive from there on. Must ascend along the list. */
export type Probe<T> = (item: T) => number;

const CHUNK = 512;

export class Ordered<T> {
  readonly #compare: (a: T, b: T) => number;
  readonly #chunks: T[][] = [];
  /** Where the last change was: the next one is mostly beside it. */
  #near = 0;

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  insert(item: T): void {
    const chunks = this.#chunks;
    const last = chunks[chunks.length - 1];
    if (!last) return void chunks.push([item]);
    // Ids and times mostly grow, so most items belong at the very end.
    if (this.#compare(last[last.length - 1]!, item) < 0) {
      if (last.length < CHUNK) last.push(item);
      else chunks.push([item]);
      return;
    }
    const c = this.#chunkOf(item);
    const chunk = chunks[c]!;
    chunk.splice(this.#placeIn(chunk, item), 0, item);
    if (chunk.length > CHUNK) chunks.splice(c + 1, 0, chunk.splice(CHUNK >> 1));
  }

  remove(item: T): void {
    const c = this.#chunkOf(item);
    const chunk = this.#chunks[c];
    const i = chunk ? this.#placeIn(chunk, item) : 0;
    if (!chunk || chunk[i] !== item) throw new PawlError("internal", "An index and its table disagree.");
    chunk.splice(i, 1);
    if (chunk.length === 0) this.#chunks.splice(c, 1);
  }

  /** Items from the first with `from(item) >= 0` up to, not including, the first with `to(item) >= 0`. */
  slice(from: Probe<T>, to: Probe<T>, limit: number, reverse: boolean): T[] {
    const chunks = this.#chunks;
    let [c, i] = this.#seek(from);
    let [endC, endI] = this.#seek(to);
    const result: T[] = [];
    while (result.length < limit && (c < endC || (c === endC && i < endI))) {
      if (reverse) {
        if (endI === 0) endI = chunks[--endC]!.length;
        result.push(chunks[endC]![--endI]!);
      } else {
        result.push(chunks[c]![i++]!);
        if (i === chunks[c]!.length) [c, i] = [c + 1, 0];
      }
    }
    return result;
  }

  count(from: Probe<T>, to: Probe<T>): number {
    const [c1, i1] = this.#seek(from);
    const [c2, i2] = this.#seek(to);
    if (c2 < c1) return 0; // an upper bound below the lower one
    let n = i2 - i1;
    for (let c = c1; c < c2; c++) n += this.#chunks[c]!.length;
    return Math.max(n, 0);
  }

  /** The first chunk whose last item is not before `item`. */
  #chunkOf(item: T): number {
    const chunks = this.#chunks;
    const compare = this.#compare;
    const near = chunks[this.#near];
    if (near && compare(near[0]!, item) <= 0 && compare(near[near.length - 1]!, item) >= 0) return this.#near;
    const found = this.#search(item);
    this.#near = found;
    return found;
  }

  #search(item: T): number {
    const chunks = this.#chunks;
    const compare = this.#compare;
    let low = 0;
    let high = chunks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const chunk = chunks[middle]!;
      if (compare(chunk[chunk.length - 1]!, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first place in the chunk that is not before `item`. */
  #placeIn(chunk: readonly T[], item: T): number {
    const compare = this.#compare;
    let low = 0;
    let high = chunk.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(chunk[middle]!, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first place whose item is not before the probe; past the end: [number of chunks, 0]. */
  #seek(probe: Probe<T>): [number, number] {
    const c = firstAtOrAfter(this.#chunks.length, (i) => probe(this.#chunks[i]!.at(-1)!));
    const chunk = this.#chunks[c];
    return chunk ? [c, firstAtOrAfter(chunk.length, (i) => probe(chunk[i]!))] : [c, 0];
  }
}

function firstAtOrAfter(length: number, probe: (i: number) => number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (probe(middle) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
