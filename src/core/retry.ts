// When to try again: back-off as a pure function, and which errors are worth it. Errors are classified by their type and
// status code, never by a word in their message ("AssertionError: … timed out" is not a time-out).
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import { sleep, systemClock, type Clock } from "../base/clock.ts";
import { systemRandom, type Random } from "../base/id.ts";
import { canonical } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Failure } from "./records.ts";

export type Backoff = {
  /** Delay before the second try, in ms; doubled for each further one. Default 1,000. */
  readonly baseMs?: number;
  /** Longest delay, in ms. Default 60,000. */
  readonly capMs?: number;
  /** Spread the delay over half to one and a half of it, so that many do not retry at the same moment. Default on. */
  readonly jitter?: boolean;
};

/** Delay in ms after `failures` tries have failed (1 or more): base, 2·base, 4·base … up to the cap, with jitter still under it. */
export function backoffMs(failures: number, backoff: Backoff, random: number): number {
  const cap = backoff.capMs ?? LIMITS.backoffCapMs;
  const delay = Math.min((backoff.baseMs ?? LIMITS.backoffMs) * 2 ** Math.min(failures - 1, 60), cap);
  return backoff.jitter === false ? delay : Math.min(Math.round(delay * (0.5 + random)), cap);
}

/** Throw this when trying again is pointless: the task or step fails at once. */
export class PermanentError extends Error {
  override readonly name = "PermanentError";
}

/** HTTP statuses worth another try: time-out, conflict of the moment, too early, too many, and the server's own trouble. */
const TRANSIENT_STATUS = new Set([408, 409, 425, 429]);
/** System errors that no second try mends. */
const PERMANENT_SYSTEM = new Set(["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EISDIR", "EINVAL", "ERR_INVALID_ARG_TYPE", "ERR_INVALID_ARG_VALUE"]);
const PERMANENT_PAWL = new Set(["usage", "value_refused", "not_found", "illegal_transition", "ambiguous_step", "unsupported", "deadline"]);

/** True when trying again cannot help. What is not known to be permanent is worth its remaining tries. */
export function isPermanent(error: unknown): boolean {
  if (error instanceof PermanentError) return true;
  if (isPawlError(error)) return PERMANENT_PAWL.has(error.code) || error.details?.["permanent"] === true;
  if (typeof error !== "object" || error === null) return false;
  const { status, statusCode, code, cause } = error as { status?: unknown; statusCode?: unknown; code?: unknown; cause?: unknown };
  const http = typeof status === "number" ? status : statusCode;
  if (typeof http === "number" && http >= 400) return http < 500 && !TRANSIENT_STATUS.has(http);
  if (typeof code === "string") return PERMANENT_SYSTEM.has(code);
  // fetch reports every network failure as a TypeError with the real error as its cause.
  if (typeof cause === "object" && cause !== null) return isPermanent(cause);
  return error instanceof TypeError || error instanceof ReferenceError || error instanceof SyntaxError || error instanceof RangeError;
}

/** Anything thrown, as it is kept in a record. */
export function failureOf(error: unknown): Failure {
  const cause = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : undefined;
  const code = isPawlError(error) ? error.code : codeOf(error);
  const details = isPawlError(error) && error.details ? canonical(error.details, "error details") : undefined;
  return {
    message: wellFormed(messageOf(error)).slice(0, 10_000),
    ...(code === undefined ? {} : { code }),
    ...(cause === undefined ? {} : { cause: wellFormed(cause).slice(0, 10_000) }),
    ...(isPermanent(error) ? { permanent: true } : {}),
    ...(details === undefined ? {} : { details }),
  };
}

/** A recorded failure as an error: live and on a replay the same in all that code can tell. Live, its stack is that of what was thrown. */
export function thrown(failure: Failure, original?: unknown): Error {
  const error = new PawlError("failed", failure.message, {
    details: { ...(failure.details as object | undefined), ...(failure.code === undefined ? {} : { code: failure.code }), ...(failure.permanent ? { permanent: true } : {}) },
    ...(failure.cause === undefined ? {} : { cause: new Error(failure.cause) }),
  });
  if (original instanceof Error && original.stack !== undefined) error.stack = original.stack;
  return error;
}

function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === "string") return code;
  return error instanceof Error && error.name !== "Error" ? error.name : undefined;
}

/** Text from outside, made into text every store holds. */
export function wellFormed(text: string): string {
  return text.toWellFormed().replaceAll("\0", "\u2400");
}

export type RetryOptions = Backoff & {
  /** Total tries, at least 1. Default 3. */
  readonly tries?: number;
  readonly signal?: AbortSignal;
  readonly isPermanent?: (error: unknown) => boolean;
  readonly onRetry?: (error: unknown, failures: number, delayMs: number) => void;
  readonly clock?: Clock;
  readonly random?: Random;
};

/**
 * Calls `fn` until it succeeds, waiting 1, 2, 4, 8 … seconds between tries. Permanent errors and an aborted signal end it
 * at once; the signal interrupts the wait. After the last try it throws `failed after N retries: …` with the last error as
 * its cause; zero or negative tries are a `usage` error.
 *
 * ```ts
 * const page = await retry((attempt) => fetchPage(url), { tries: 5, signal });
 * ```
 */
export async function retry<T>(fn: (attempt: number) => Promise<T> | T, options: RetryOptions = {}): Promise<T> {
  const tries = options.tries ?? LIMITS.attempts;
  if (!Number.isInteger(tries) || tries < 1) throw new PawlError("usage", `tries must be a whole number of at least 1, not ${tries}.`);
  const permanent = options.isPermanent ?? isPermanent;
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      return await fn(attempt);
    } catch (error) {
      if (options.signal?.aborted || permanent(error)) throw error;
      if (attempt === tries) {
        throw new PawlError("failed", `failed after ${tries} retries: ${messageOf(error)}`, { cause: error });
      }
      const delayMs = backoffMs(attempt, options, (options.random ?? systemRandom).number());
      options.onRetry?.(error, attempt, delayMs);
      await sleep(options.clock ?? systemClock, delayMs, options.signal);
    }
  }
}
