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
  /** Bytes of one artifact: read and hashed in memory; larger belongs into a file whose path is kept. */
  artifactBytes: 64 << 20,
  /** Bytes of one piece of an artifact: what reading a few lines of it costs. */
  artifactChunkBytes: 256 << 10,
  /** How long an artifact that nothing names is kept, in ms: whoever put it may be about to name it. */
  artifactKeepMs: 86_400_000,
  /** Bytes of JSON of a step's output beyond which it becomes an artifact: records are read whole and often. */
  stepOutputBytes: 16 << 10,
  /** Bytes of JSON of one remembered value, and of its context: a memory is a fact, not a document. */
  memoryBytes: 16 << 10,
  /** Days after which a memory that nobody verified again is half as sure. */
  memoryHalfLifeDays: 90,
  /** Different words of one memory that are indexed: bounds what one write costs. */
  memoryWords: 256,
  /** Different words of a search that count. */
  searchWords: 12,
  /** Memories looked at for each word of a search, the best first: bounds its cost, however common the word. */
  searchCandidates: 200,
  /** Events of one name that are kept for waits to come: more means that nobody waits for them. */
  keptEvents: 10_000,
  /** How long one call may wait for an event, in ms: a connection that says nothing for longer is cut by what stands between. */
  eventPollMs: 600_000,
  /** Children one task may start at once, and how deep they may start children: beyond, a program that starts itself would fill the state. */
  children: 1_000,
  childDepth: 16,
  /** Started executions a task gets unless told otherwise. */
  attempts: 3,
  /** Takeovers after which a task is taken to kill its workers. */
  takeovers: 20,
  /** Reviews that may end without a verdict before a person must judge. */
  reviews: 5,
  /** How long a claim lasts without a heartbeat, in ms. On one host a kernel lock tells death at once. */
  leaseMs: 30_000,
  /** How often a worker says that it is there, in ms: each time is a write. */
  workerSeenMs: 3_600_000,
  /** After so long unseen, with nothing it owns, the record of a worker on another host is removed, in ms: a laptop may sleep for a week, and of one that wakes later only the leases count. */
  workerUnseenMs: 14 * 86_400_000,
  /** How long a claim by a command that does not stay lasts, in ms. */
  heldLeaseMs: 3_600_000,
  /** How long a copy waits for tasks in progress unless told otherwise, in ms: what ends soon may end, then a person decides. */
  copyWaitMs: 60_000,
  /** How long after its last step a copy on another machine is taken to go on, in ms: nobody here can look. */
  copyAwayMs: 3_600_000,
  /** Back-off: first delay and cap, in ms. 1, 2, 4, 8 … s as in every course on retries; a minute is long enough. */
  backoffMs: 1_000,
  backoffCapMs: 60_000,
  /** How long a breaker that opened after failures stays open unless told otherwise, and at most after one failed probe after the other, in ms. */
  breakerCooldownMs: 60_000,
  breakerCooldownCapMs: 3_600_000,
  /** Entries of a breaker's log: it is one record, rewritten with each of them. */
  breakerLog: 20,
  /** Tasks of one concurrency key in work at a time, at most: the slots of a key are read together. */
  slots: 1_000,
  /** How long a slot stays with a task that nobody claims, in ms, before another queue's or batch's task of its key may have it. */
  slotIdleMs: 1_000,
  /** The shortest interval of a schedule, in ms: workers look ten times a second. */
  scheduleEveryMs: 1_000,
  /** After this an instant of a schedule that nobody fired counts as missed, in ms: a restart takes no longer. */
  scheduleLateMs: 60_000,
  /** Missed instants of one schedule that are made up for at once: a week without a worker must not flood its queue. */
  scheduleMissed: 100,
  /** Bytes of a command's stderr (and stdout) kept with a task: enough for a stack trace and its neighbourhood. */
  outputBytes: 64 << 10,
  /** Bytes of a command's stdout taken as its result. */
  resultBytes: 1 << 20,
  /** Bytes of journal read to rebuild what a hand edit was made of, when no checkpoint helps: about a second under the lock. */
  editReplayBytes: 64 << 20,
  /** Entries of one task list: more is a data set, and a run of it would outlive any machine. */
  listEntries: 1_000_000,
  /** Part of a budget from which on it runs low: enough is left to come to an end in good order. */
  budgetPressure: 0.8,
  /** Budgets above one another, as agents start agents: each spend is counted in all of them, in one change. */
  budgetDepth: 16,
  /** Bytes of one patch, and how many things it may add or end: a model's patch is a few lines; what is larger is an artifact. */
  patchBytes: 256 << 10,
  patchItems: 500,
  /** Bytes of a fact's value. The facts go into every call of the model; what is larger is an artifact. */
  factBytes: 16 << 10,
  /** Characters of a question, a line of a plan or the summary of an artifact: a person reads them in a list. */
  agentTextChars: 4_000,
  /** How often decisions that nobody was told of are looked for, in ms: a person is not faster. */
  notifyEveryMs: 2_000,
  /** How long the command or webhook that tells of a new decision may take, in ms. */
  notifyMs: 30_000,
  /** How long one call of a model and one call of a tool may take unless told otherwise, in ms: long reasoning takes minutes, a hang takes for ever. */
  modelMs: 300_000,
  toolMs: 600_000,
  /** Calls of a model for one answer: what two more tries do not mend is for the task's own attempts. */
  modelTries: 3,
  /** A model's own request to wait up to so long is waited for in place, in ms; for a longer one the task is given back. */
  retryAfterMs: 15_000,
  /** Tokens of one answer unless told otherwise: so many are reserved before each call. */
  answerTokens: 8_192,
  /** Tool calls of one answer that are run; a model that wants more at once is told so. */
  callsAtOnce: 32,
  /** Answers in a row with nothing in them before the attempt fails. */
  emptyAnswers: 3,
  /** Bytes of a tool's output that go into the conversation as they are; of a larger one an excerpt goes, and the rest is an artifact. */
  toolOutputBytes: 8 << 10,
  excerptBytes: 2_000,
  /** Bytes of an artifact that a model reads in one go. */
  artifactReadBytes: 4_000,
  /** Bytes of a result that a judging model is shown: about a quarter of the smallest window in use. */
  judgedBytes: 64 << 10,
  /** Bytes of known facts, and artifacts, that are shown to a model: the newest of them. */
  stateBytesInContext: 32 << 10,
  artifactsInContext: 50,
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
  /** Transactions with users' own SQL at once: they may take a while, and the other connections are for leases and reads. */
  postgresTransactions: 2,
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
  /** The same while the state is closed, in ms: whoever ends a program does not wait for a server that is gone. */
  postgresCloseMs: 3_000,
  /** How often others' changes are looked for behind the notifications, in ms, give or take a fifth. */
  postgresPollMs: 5_000,
  /** How long a claim waits for a task to become due at most, in ms: clients of MCP give a call about a minute. */
  claimWaitMs: 50_000,
  /** How often a waiting claim looks behind the hints, in ms: a delay that ends tells nobody. */
  claimPollMs: 1_000,
  /** Characters of what a program is told that has forgotten everything: about 1,500 tokens, for it is read in every session. */
  primeChars: 4_500,
  /** Bytes of a list that a model is shown, and characters of any answer: what it reads it pays for, and forgets other things over. */
  modelListBytes: 7_500,
  modelChars: 40_000,
  /** Bytes of one HTTP request's body: room for the largest text field and what stands around it. */
  requestBytes: 2 << 20,
  /** HTTP requests a second that are answered, with bursts of twice as many: a dashboard needs ten, a loop gone wild none. */
  requestsPerSecond: 100,
  /** Readers of live changes at a time: every tab of a browser is one. */
  liveReaders: 64,
} as const;
