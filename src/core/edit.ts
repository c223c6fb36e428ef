// A hand edit of the state file, as a record: what became of it, what was refused and why, and where the edited file is
// kept. Invariant: an edit whose refusals are not settled keeps its file; settling never runs twice.

//   new ──────▶ merged                 all of it
//       ├─────▶ partly ──┬─▶ accepted    by force, as far as it is possible
//       ├─────▶ refused ─┤
//   broken (no JSON) ────┴─▶ discarded   the copy stays, nothing of it is taken over
//   `new` and `broken` are the file itself, not yet a record
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import type { EditDoor } from "../store/store.ts";
import { type Committer, commitOrThrow } from "./committer.ts";

export const EDIT_STATUSES = ["new", "broken", "merged", "partly", "refused", "accepted", "discarded"] as const;
export type EditStatus = (typeof EDIT_STATUSES)[number];
/** Statuses in which a person still has to say what becomes of it. */
export const UNSETTLED: readonly EditStatus[] = ["partly", "refused"];

/** What was not taken over. `at` names the place in the document, such as `tasks[3]`; `task` the task it is about. */
export type Refusal = { readonly at: string; readonly task: number | null; readonly reason: string };

export type Edit = {
  readonly id: string;
  readonly status: EditStatus;
  readonly at: string;
  /** The revision of the view it was made of; null when it cannot be told. */
  readonly base_revision: number | null;
  /** The hash of the edited file. */
  readonly hash: string;
  /** The copy of the edited file, null when nothing was refused: its name in the record, its path when listed; of one that is not taken in yet the state file itself. */
  readonly kept: string | null;
  /** How many tasks and batches were changed. */
  readonly changes: number;
  readonly refusals: readonly Refusal[];
  /** What it said, as fingerprints: a second save from the same buffer says it again. See reconcile-said.ts. */
  readonly said: readonly string[] | null;
  /** Where a file that is no JSON breaks, and why. */
  readonly line: number | null;
  readonly column: number | null;
  readonly reason: string | null;
  /** What was mended before the file could be read, such as comments; of a broken one what would be, null when that does not help. */
  readonly repairs: readonly string[] | null;
  readonly settled_at: string | null;
  readonly settled_by: string | null;
};

/** The id of what stands at the view's path and is not taken in. */
export const FILE = "file";
/** What is shown of an edit that has no record. */
const UNRECORDED = {
  id: FILE, base_revision: null, kept: null, changes: 0, refusals: [], said: null, line: null, column: null, reason: null, repairs: null, settled_at: null, settled_by: null,
} as const;

/** Edits, newest first, at most `limit`; with `unsettled` only those that wait for a person. Before them what is not taken in yet. */
export async function editsOf(committer: Committer, options: { readonly limit?: number; readonly unsettled?: boolean } = {}): Promise<Edit[]> {
  const { edits } = committer.store;
  if (!edits) return [];
  const waiting = await outstandingEdit(edits, iso(committer.store.clock.now()));
  const shown = (await recordsOf(committer, options)).map((edit) => listed(edits, edit));
  return waiting ? [waiting, ...shown] : shown;
}

async function recordsOf({ store }: Committer, { limit = 100, unsettled }: { readonly limit?: number; readonly unsettled?: boolean }): Promise<Edit[]> {
  if (!unsettled) return (await store.list("edit", { index: "at", reverse: true, limit })) as unknown as Edit[];
  const found = await Promise.all(UNSETTLED.map((status) => store.list("edit", { index: "status", equals: { status }, reverse: true, limit })));
  return (found.flat() as unknown as Edit[]).sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0)).slice(0, limit);
}

const listed = (edits: EditDoor, edit: Edit): Edit => ({ ...edit, kept: edit.kept === null ? null : edits.pathOf(edit.kept) });

async function outstandingEdit(edits: EditDoor, at: string): Promise<Edit | null> {
  const found = await edits.outstanding();
  if (!found) return null;
  const { path, hash, revision, line, column, why, repairs, broken } = found;
  return { ...UNRECORDED, status: broken ? "broken" : "new", at, base_revision: revision, hash, kept: path, line, column, reason: why, repairs };
}

/**
 * Takes over what was refused of an edit, as far as a legal command does it: what changed since is overwritten, a live worker
 * is fenced off. What is impossible stays in its refusals. "file": takes in the file that is broken, if it can be mended.
 */
export async function acceptEdit(committer: Committer, id: string, actor: string): Promise<Edit> {
  const edits = doorOf(committer);
  if (id === FILE) return settleFile(committer, () => edits.accept(actor));
  const edit = await unsettled(committer, id);
  const force: Forced = { id, only: edit.refusals.map(({ at }) => at), changes: edit.changes };
  await edits.force({ copy: edit.kept!, hash: edit.hash, revision: edit.base_revision }, force as unknown as Json, actor);
  return listed(edits, (await committer.store.get("edit", [id]))[0] as unknown as Edit);
}

/** Nothing of what was refused is taken over; the kept copy stays. */
export async function discardEdit(committer: Committer, id: string, actor: string): Promise<Edit> {
  const edits = doorOf(committer);
  if (id === FILE) return settleFile(committer, () => edits.discard(actor));
  const edit = await unsettled(committer, id);
  const set = { status: "discarded", settled_at: iso(committer.store.clock.now()), settled_by: actor } as const;
  const change = { guards: [{ kind: "edit", key: id, is: { status: edit.status } }], puts: [{ kind: "edit", key: id, set }] };
  await commitOrThrow(committer, change, (conflict) => settledAlready((conflict.record ?? edit) as unknown as Edit));
  return listed(edits, { ...edit, ...set });
}

/** Settles the file at the view's path, which is no record before. */
async function settleFile(committer: Committer, settle: () => Promise<void>): Promise<Edit> {
  const before = await doorOf(committer).outstanding();
  await settle();
  return newest(committer, before?.hash ?? "");
}

/** A refused edit merged again by force: the record it is about, which of its places are wanted, and what was taken over before. */
export type Forced = { readonly id: string; readonly only: readonly string[]; readonly changes: number };

/** The record of the file that was settled this moment. One that said nothing new has none. */
async function newest(committer: Committer, hash: string): Promise<Edit> {
  const [edit] = (await recordsOf(committer, { limit: 1 })) as Edit[];
  if (edit?.hash === hash) return listed(doorOf(committer), edit);
  const at = iso(committer.store.clock.now());
  return { ...UNRECORDED, status: "merged", at, hash, settled_at: at };
}

function doorOf({ store }: Committer): EditDoor {
  if (store.edits) return store.edits;
  throw new PawlError("usage", `${store.location} has no file that is edited by hand.`, { next: "Change tasks with: pawl edit, pawl complete, pawl cancel." });
}

async function unsettled(committer: Committer, id: string): Promise<Edit> {
  const edit = ((await committer.store.get("edit", [id]))[0] ?? null) as Edit | null;
  if (!edit) throw new PawlError("not_found", `There is no hand edit ${id}.`, { next: "See what there is: pawl status.", details: { id } });
  if (!UNSETTLED.includes(edit.status)) throw settledAlready(edit);
  return edit;
}

function settledAlready(edit: Edit): PawlError {
  return new PawlError("illegal_transition", `The hand edit ${edit.id} is ${edit.status}; there is nothing to settle.`, { details: { id: edit.id, status: edit.status } as Record<string, Json> });
}
