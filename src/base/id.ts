// Randomness, as something passed in: ids that must not collide between processes, and the jitter of retries.
import { randomBytes } from "node:crypto";

export type Random = {
  /** Uniform in [0, 1). */
  number(): number;
  /** `bytes` random bytes as lower-case hex. */
  hex(bytes: number): string;
};

export const systemRandom: Random = {
  number: () => Math.random(),
  hex: (bytes) => randomBytes(bytes).toString("hex"),
};

/** The same numbers for the same seed (mulberry32), for tests and simulations. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const number = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const hex = (bytes: number) => Array.from({ length: bytes }, () => Math.floor(number() * 256).toString(16).padStart(2, "0")).join("");
  return { number, hex };
}
