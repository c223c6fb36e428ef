// What `doctor` finds: a closed list of codes, each with how bad it is. Invariant: a finding says where it is, what it means
// and what helps; looking for findings changes nothing.

/** "error": something is damaged or unusable. "warning": it works, and should be looked at. "note": worth knowing. */
export type Severity = "error" | "warning" | "note";

export const FINDINGS = {
  // the place
  not_a_file: "error", // the path is a folder, a pipe, a link that leads nowhere
  not_ours: "error", // a file of something else
  newer_format: "error",
  network_disk: "error", // locks and flushes cannot be relied on
  unreadable: "error", // the disk or its permissions refuse reading
  open_to_others: "warning", // other users may read or change it
  other_owner: "warning",
  synced_folder: "warning", // a cloud client copies the files one by one, and back
  disk_low: "warning",
  sealed: "warning", // moved, or being copied
  copy_interrupted: "warning", // its copier died; the next command opens it again
  unfinished_copy: "error", // what a copier that died left at the target
  // the JSON store
  journal_missing: "error",
  journal_gap: "error", // a segment is missing
  journal_damaged: "error",
  journal_short: "error", // lines are missing at its end
  journal_torn: "warning", // the last line was not finished, so it was never acknowledged
  journal_damaged_before: "warning", // damage before the checkpoint that is used: the state is whole
  checkpoint_damaged: "warning",
  view_missing: "note",
  view_old: "note",
  view_edited: "warning",
  view_broken: "warning",
  put_aside: "note", // what is in quarantine
  leftover: "note", // temporary files of killed processes
  // the SQLite store
  sqlite_damaged: "error",
  sqlite_log_alone: "error", // a log whose file is gone or empty
  sqlite_log: "note", // a log that is not folded in yet
  sqlite_old: "warning", // a SQLite whose write-ahead log is not safe
  sqlite_setting: "error",
  sqlite_schema: "note", // the next open brings it up to date
  // the Postgres store
  server_unsupported: "error", // too old, or not in UTF8
  server_setting: "error", // it may lose what was acknowledged
  server_read_only: "error", // a standby, or set to refuse writing
  schema_damaged: "error", // a table, a column or an index that belongs to it is not there
  schema_old: "note", // the next open brings it up to date
  counts_wrong: "warning", // kept counts that are not what counting gives
  rights_missing: "warning", // this role cannot do what Pawl does
  long_transaction: "warning", // somebody holds up cleaning and perhaps writers
  clock_apart: "note", // this machine's clock and the server's
  // workers
  worker_dead: "warning",
  worker_unknown: "note",
  // records
  chain_broken: "error",
  status_unexplained: "error", // a status that the history does not lead to
  held_without_lease: "warning",
  ready_wrong: "warning",
  dangling: "warning", // a record of something that is not there
  untold: "warning", // what a task waits for is there, and the task does not know
  agent_damaged: "error", // an agent that is not what its patches make, or a budget that does not add up
  artifact_damaged: "error", // content that is missing, or not what was put
  counter_low: "error", // an id would be given twice
} as const satisfies { readonly [code: string]: Severity };

export type FindingCode = keyof typeof FINDINGS;

export type Finding = {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** The file or folder; for a record, the state. */
  readonly place: string;
  readonly line?: number;
  /** Bytes from the beginning of the file. */
  readonly offset?: number;
  /** The record it is about, such as "task 3". */
  readonly record?: string;
  readonly message: string;
  /** What to do about it. */
  readonly next?: string;
};

/** A finding of this code, with its severity. */
export function finding(code: FindingCode, place: string, message: string, more: Pick<Finding, "line" | "offset" | "record" | "next"> = {}): Finding {
  return { code, severity: FINDINGS[code], place, ...more, message };
}
