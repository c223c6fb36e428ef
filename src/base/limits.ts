// Every maximum in the system, each with its reason. A limit that is not here does not exist.

export const LIMITS = {
  /** Bytes of one text field. Postgres indexes, terminals and people all stop being useful well before. */
  textBytes: 1 << 20,
  /** Bytes of one JSON value inside a record; larger values belong into artifacts. */
  valueBytes: 16 << 20,
  /** Nesting of a JSON value: deeper ones overflow the stack of parsers other than ours. */
  valueDepth: 256,
  /** Characters of a key, name, tag or id: they are printed, indexed and put into file names. */
  nameChars: 512,
  /** Records one `list` call returns at most; larger results are read by cursor. */
  listRecords: 10_000,
  /** Changes gathered into one flush: bounds the time the event loop and other writers wait. */
  flushChanges: 500,
  /** Started executions a task gets unless told otherwise. */
  attempts: 3,
  /** Takeovers after which a task is taken to kill its workers. */
  takeovers: 20,
  /** Reviews that may end without a verdict before a person must judge. */
  reviews: 5,
  /** How long a claim lasts without a heartbeat, in ms. On one host a kernel lock tells death at once. */
  leaseMs: 30_000,
  /** How long a claim by a command that does not stay lasts, in ms. */
  heldLeaseMs: 3_600_000,
  /** Back-off: first delay and cap, in ms. 1, 2, 4, 8 … s as in every course on retries; a minute is long enough. */
  backoffMs: 1_000,
  backoffCapMs: 60_000,
  /** Bytes of a command's stderr (and stdout) kept with a task: enough for a stack trace and its neighbourhood. */
  outputBytes: 64 << 10,
  /** Bytes of a command's stdout taken as its result. */
  resultBytes: 1 << 20,
  /** How long an operation id is remembered, in ms: longer than any retry of a lost answer. */
  operationMs: 86_400_000,
  /** How long a writer waits for the lock of a state before it fails `busy`, in ms. */
  lockWaitMs: 10_000,
  /** After this wait for a lock the holder is named on stderr, in ms. */
  lockNoticeMs: 2_000,
} as const;
