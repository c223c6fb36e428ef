// The one error class of Pawl and its closed list of codes. A code decides, in one table, the exit code of the
// command line and the status of an HTTP answer; no other place maps errors. A lost race is a value, not an error.

/** What went wrong, by its consequence for the caller. `exit` is the CLI's exit code, `http` the HTTP status. */
export const ERROR_CODES = {
  usage: { exit: 2, http: 400 }, // the request itself is wrong: unknown flag, missing argument, no such program
  value_refused: { exit: 2, http: 422 }, // a value no store can hold, or beyond a limit
  not_found: { exit: 3, http: 404 },
  conflict: { exit: 4, http: 409 }, // someone else changed it first, or the key is taken
  illegal_transition: { exit: 4, http: 409 }, // the task is not in a state from which this is possible
  lease_lost: { exit: 5, http: 409 }, // the caller no longer owns the task
  busy: { exit: 6, http: 503 }, // the state is locked for longer than the deadline allows
  corrupt: { exit: 7, http: 500 }, // damaged; never overwritten
  unsupported: { exit: 7, http: 501 }, // a newer format, an unsafe SQLite, a network file system
  storage: { exit: 8, http: 507 }, // the disk or the database refused; nothing was changed
  commit_unknown: { exit: 8, http: 500 }, // the disk failed while flushing: it may or may not have been kept
  ambiguous_step: { exit: 9, http: 500 }, // two steps could be mistaken for one another on replay
  timeout: { exit: 10, http: 504 },
  deadline: { exit: 10, http: 504 },
  cancelled: { exit: 11, http: 409 },
  waiting: { exit: 12, http: 202 }, // a person must decide first
  failed: { exit: 1, http: 500 }, // the user's own work failed
  closed: { exit: 8, http: 503 },
  moved: { exit: 13, http: 410 }, // the state is elsewhere now, or on its way there
  internal: { exit: 70, http: 500 }, // a bug in Pawl
} as const;

/** What helps against an error that does not say it more exactly. */
export const NEXT: { readonly [code in keyof typeof ERROR_CODES]: string } = {
  usage: "Correct it and try again.",
  value_refused: "Make it plain JSON, or smaller, and try again.",
  not_found: "See what there is: pawl list.",
  conflict: "See how it stands now (pawl status), then try again.",
  illegal_transition: "See where it stands: pawl why ID.",
  lease_lost: "See what happened: pawl history ID.",
  busy: "Try again, or end the process that holds it.",
  corrupt: "See what is wrong with it: pawl doctor.",
  unsupported: "Update Pawl, or use another path.",
  storage: "Make room, check the permissions, and try again.",
  commit_unknown: "Check the disk, then open the state again and look.",
  ambiguous_step: "Give each step a key or a scope of its own.",
  timeout: "Allow more time, or find out why it took so long.",
  deadline: "Try it again with a new one: pawl retry ID --deadline 1h.",
  cancelled: 'To work it all the same: pawl reopen ID --reason "…".',
  waiting: "Settle it: pawl inbox.",
  failed: "See why: pawl why ID.",
  closed: "Open the state again.",
  moved: "Use it where it is now.",
  internal: "This is a bug in Pawl; please report it with this text.",
};

export type ErrorCode = keyof typeof ERROR_CODES;

/**
 * Every error Pawl throws. `message` is one sentence with the ids in it; `next` says what to do about it.
 * `details` holds plain values for `--json`; `cause` keeps the original error.
 */
export class PawlError extends Error {
  readonly code: ErrorCode;
  readonly next: string;
  readonly details: Record<string, unknown> | undefined;

  constructor(code: ErrorCode, message: string, options: { next?: string; details?: Record<string, unknown>; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "PawlError";
    this.code = code;
    this.next = options.next ?? withId(NEXT[code], options.details?.["id"]);
    this.details = options.details;
  }
}

/** The task it is about takes the place of "ID". */
function withId(next: string, id: unknown): string {
  return typeof id === "number" ? next.replace(/\bID\b/, String(id)) : next;
}

/** True for a PawlError, of the given code when one is named. */
export function isPawlError(error: unknown, code?: ErrorCode): error is PawlError {
  return error instanceof PawlError && (code === undefined || error.code === code);
}

/** A noun with the article it is spoken with: "an event", "a Uint8Array". */
export function withArticle(noun: string): string {
  return `${/^([aeio]|un)/i.test(noun) ? "an" : "a"} ${noun}`;
}

/** The readable message of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message || error.name;
  return typeof error === "string" ? error : String(error);
}
