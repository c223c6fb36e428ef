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
  /** Bytes of another program's state file that is adopted: it is read whole and becomes one file of the journal. */
  adoptBytes: 64 << 20,
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
  /** How long a copy waits for tasks in progress unless told otherwise, in ms: what ends soon may end, then a person decides. */
  copyWaitMs: 60_000,
  /** Back-off: first delay and cap, in ms. 1, 2, 4, 8 … s as in every course on retries; a minute is long enough. */
  backoffMs: 1_000,
  backoffCapMs: 60_000,
  /** Bytes of a command's stderr (and stdout) kept with a task: enough for a stack trace and its neighbourhood. */
  outputBytes: 64 << 10,
  /** Bytes of a command's stdout taken as its result. */
  resultBytes: 1 << 20,
  /** Bytes of journal read to rebuild what a hand edit was made of, when no checkpoint helps: about a second under the lock. */
  editReplayBytes: 64 << 20,
  /** Entries of one task list: more is a data set, and a run of it would outlive any machine. */
  listEntries: 1_000_000,
  /** Tokens at which a conversation is cleared: what is left of a 200,000 window must hold the next task. */
  contextTokens: 150_000,
  /** How long an operation id is remembered, in ms: longer than any retry of a lost answer. */
  operationMs: 86_400_000,
  /** How long a writer waits for the lock of a state before it fails `busy`, in ms. */
  lockWaitMs: 10_000,
  /** After this wait for a lock the holder is named on stderr, in ms. */
  lockNoticeMs: 2_000,
  /** Connections of one state to Postgres, besides the one that listens: one writes, the others read. A server has a hundred for all. */
  postgresConnections: 4,
  /** After this without use a connection is given back to the server, in ms. */
  postgresUnusedMs: 30_000,
  /** How long making a connection may take, in ms. */
  postgresConnectMs: 5_000,
  /** Server-side limits of a statement, of a wait for a lock and of a transaction that says nothing, in ms: one that died in the middle holds its rows no longer. */
  postgresStatementMs: 10_000,
  postgresLockMs: 5_000,
  postgresIdleMs: 15_000,
  /** How long an answer may take before the connection is taken to be dead, in ms: longer than any statement. */
  postgresAnswerMs: 15_000,
  /** The same while a schema is made or brought up to date, in ms: a new index on a large table takes minutes. */
  postgresMigrateMs: 600_000,
  /** How long a lost server is tried again before a call fails, in ms: a restart takes a few seconds, a failover half a minute. */
  postgresPatienceMs: 30_000,
  /** How often others' changes are looked for behind the notifications, in ms, give or take a fifth. */
  postgresPollMs: 5_000,
} as const;
