// Durations as people write and read them ("90s", "1h30m", "2 h 5 m"). Inside Pawl a duration is always a whole number of
// milliseconds; these two functions are the only border.
import { PawlError } from "./errors.ts";

const UNIT_MS: { readonly [unit: string]: number } = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };
/** A hundred years: beyond it, now plus the duration soon leaves the dates that JavaScript and Postgres share. */
const MAX_MS = 36_525 * 86_400_000;

/**
 * Milliseconds of "1500ms", "30s", "5m", "2h", "1d", "1h30m", "1.5h". A bare number is seconds, as in coreutils' timeout.
 * Units go from large to small, each once. Shorter than `min` ms (default 1, so zero is refused; 0 allows it) or longer
 * than a hundred years is a `usage` error, in which `name` is what the duration is for.
 */
export function parseDuration(text: string, options: { min?: number; name?: string } = {}): number {
  const { min = 1, name = "duration" } = options;
  const word = text.trim();
  const ms = Math.round(/^\d+(\.\d+)?$/.test(word) ? Number(word) * 1000 : sumOfUnits(word));
  if (Number.isNaN(ms)) throw refused(name, text, "is not a duration");
  if (ms < min) throw refused(name, text, min === 1 ? "must be longer than zero" : `must be at least ${formatDuration(min)}`);
  if (ms > MAX_MS) throw refused(name, text, "is longer than a hundred years");
  return ms;
}

/** NaN when it is not a sum of units. A long text is none, whatever it holds, and is not searched. */
function sumOfUnits(word: string): number {
  if (word.length > 64) return NaN;
  const parts = /^(?:(?<d>\d+(?:\.\d+)?)\s*d)?\s*(?:(?<h>\d+(?:\.\d+)?)\s*h)?\s*(?:(?<m>\d+(?:\.\d+)?)\s*m(?!s))?\s*(?:(?<s>\d+(?:\.\d+)?)\s*s)?\s*(?:(?<ms>\d+(?:\.\d+)?)\s*ms)?$/.exec(word)?.groups;
  if (!parts || word === "") return NaN;
  return Object.entries(parts).reduce((sum, [unit, number]) => sum + Number(number ?? 0) * (UNIT_MS[unit] as number), 0);
}

function refused(name: string, text: string, why: string): PawlError {
  const quoted = JSON.stringify(text.slice(0, 40).toWellFormed());
  return new PawlError("usage", `The ${name} ${quoted} ${why}.`, { next: "Write a number with ms, s, m, h or d, such as 30s or 1h30m.", details: { name, value: text.slice(0, 40).toWellFormed() } });
}

/** Short, for people: "850 ms", "1.2 s", "42 s", "3 m 20 s", "2 h 5 m", "3 d 4 h". */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return "?";
  const whole = Math.max(Math.round(ms), 0);
  if (whole < 1_000) return `${whole} ms`;
  // Rounded before the unit is chosen, so that 59.9 s is a minute and never "60 s".
  if (whole < 9_950) return `${Math.round(whole / 100) / 10} s`;
  const seconds = Math.round(whole / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return two(seconds, 60, "m", "s");
  const minutes = Math.round(seconds / 60);
  if (minutes < 1_440) return two(minutes, 60, "h", "m");
  return two(Math.round(minutes / 60), 24, "d", "h");
}

function two(total: number, large: number, largeUnit: string, smallUnit: string): string {
  const rest = total % large;
  return `${Math.floor(total / large)} ${largeUnit}${rest === 0 ? "" : ` ${rest} ${smallUnit}`}`;
}
