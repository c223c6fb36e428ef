// What a hand edit means, as tables: which status a person may set from which, which fields, what is refused and why, what an
// added or removed entry does, and that what changed since is never overwritten.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Json } from "../../src/base/json.ts";
import type { Edit, Refusal } from "../../src/core/edit.ts";
import { reconcile } from "../../src/core/reconcile.ts";
import { STATUSES, type Status, type Task, type Transition } from "../../src/core/records.ts";
import { renderView } from "../../src/core/view.ts";
import { MODEL } from "../../src/state/opening.ts";
import type { Fields, HandEdit } from "../../src/store/store.ts";
import { type Effect, Tables } from "../../src/store/tables.ts";
import { AT, NOW, requireSound, sample } from "./samples.ts";

type Document = { pawl?: Json; tasks: { [field: string]: Json }[]; [key: string]: unknown };
type Result = { readonly tables: Tables; readonly refusals: readonly Refusal[]; readonly edit: Edit | null; task(id: number): Task; history(id: number): Transition[] };

/** A place with these tasks; `edit` changes the view of it, `since` what happened before the edit came in. */
function place(...tasks: Task[]) {
  const tables = new Tables(MODEL);
  const put = (kind: string, record: Fields) => void tables.apply({ puts: [{ kind, record }] }, NOW, []);
  for (const task of tasks) {
    put("task", task as unknown as Fields);
    for (const depends_on_id of task.depends_on) put("dependency", { task_id: task.id, depends_on_id });
  }
  const shown = () => Object.fromEntries(Object.entries(renderView((kind) => tables.all(kind), 1)).map(([key, value]) => [key, typeof value === "function" ? [...value()] : value])) as unknown as Document;
  return {
    tables,
    shown,
    edit(change: (document: Document) => void, options: Partial<HandEdit> & { dead?: boolean; since?: () => void } = {}): Result {
      const base = shown();
      const edited = structuredClone(base);
      change(edited);
      options.since?.();
      return take(tables, { base: { document: base as unknown as Json }, edited: edited as unknown as Json, ...options }, options.dead ?? false);
    },
  };
}

function take(tables: Tables, given: Partial<HandEdit> & Pick<HandEdit, "base" | "edited">, dead: boolean): Result {
  const edit: HandEdit = { revision: 1, headless: false, hash: "h", copy: "copy.json", repairs: [], verdict: "merge", actor: null, ...given };
  const { changes, conclude } = reconcile(edit, tables, NOW, () => dead);
  const effects: Effect[] = [];
  for (const { at, change } of changes) {
    const result = tables.apply(change, NOW, effects);
    assert.ok(result.ok, `${at}: ${JSON.stringify(result)}`);
  }
  const end = conclude([]);
  if (end) assert.ok(tables.apply(end.change, NOW, effects).ok);
  const record = (tables.all("edit").at(-1) ?? null) as unknown as Edit | null;
  return {
    tables, refusals: record?.refusals ?? [], edit: end ? record : null,
    task: (id) => tables.get("task", id) as unknown as Task,
    history: (id) => tables.list("transition", { equals: { task_id: id } }) as unknown as Transition[],
  };
}

const LATER = new Date(NOW + 1000).toISOString();
const unowned = (status: Status, fields: Partial<Task> = {}): Task => sample(status, { worker: null, lease_expires_at: null, ready: status === "pending" || status === "review", ...fields });

/** From which status a person gets to which, and by which transition; everything else is refused. */
const LEGAL: { readonly [from in Status]?: { readonly [to in Status]?: string } } = {
  pending: { completed: "completed", failed: "failed", cancelled: "cancelled" },
  waiting: { pending: "woken", completed: "completed", failed: "failed", cancelled: "cancelled" },
  review: { pending: "rejected", completed: "completed", failed: "failed", cancelled: "cancelled" },
  failed: { pending: "retried", completed: "completed" },
  completed: { pending: "reopened" },
  cancelled: { pending: "reopened" },
};

for (const from of STATUSES.filter((status) => status !== "in_progress")) {
  test(`a person sets ${from} to what a command would, and to nothing else`, () => {
    for (const to of [...STATUSES, "nonsense"].filter((status) => status !== from)) {
      const before = unowned(from);
      const { task, refusals, history } = place(before).edit((document) => (document.tasks[0]!["status"] = to));
      const event = LEGAL[from]?.[to as Status];
      assert.equal(refusals.length, event ? 0 : 1, `${from} → ${to}: ${JSON.stringify(refusals)}`);
      assert.equal(task(1).status, event ? to : from);
      if (!event) assert.deepEqual(task(1), before);
      else {
        requireSound(task(1));
        const last = history(1).at(-1)!;
        assert.deepEqual([last.actor, last.event], ["editor", event]);
        assert.ok(last.reason, "a reason");
      }
    }
  });
}

test("what a live worker owns is refused; what a dead one owned may be ended, and is fenced", () => {
  for (const to of ["pending", "completed", "failed", "cancelled"] as const) {
    const live = place(sample("in_progress")).edit((document) => (document.tasks[0]!["status"] = to));
    assert.match(live.refusals[0]!.reason, /worked on by w/);
    assert.equal(live.task(1).status, "in_progress");
    const dead = place(sample("in_progress")).edit((document) => (document.tasks[0]!["status"] = to), { dead: true });
    assert.deepEqual(dead.refusals, []);
    if (to === "pending") assert.equal(dead.task(1).worker, "w", "the sweep ends what it left running first");
    else assert.deepEqual([dead.task(1).status, dead.task(1).worker, dead.task(1).fence], [to, null, 2]);
  }
  const field = place(sample("in_progress")).edit((document) => (document.tasks[0]!["priority"] = 1));
  assert.match(field.refusals[0]!.reason, /worked on/);
});

test("a completion takes the result with it, a failure its error, a reopening the feedback", () => {
  const done = place(unowned("pending")).edit((document) => Object.assign(document.tasks[0]!, { status: "completed", result: { by: "hand" } }));
  assert.deepEqual([done.task(1).status, done.task(1).result], ["completed", { by: "hand" }]);
  const failed = place(unowned("pending")).edit((document) => Object.assign(document.tasks[0]!, { status: "failed", error: "no use" }));
  assert.deepEqual([failed.task(1).error?.message, failed.task(1).status], ["no use", "failed"]);
  const again = place(unowned("completed")).edit((document) => Object.assign(document.tasks[0]!, { status: "pending", feedback: "shorter" }));
  assert.deepEqual([again.task(1).feedback, again.task(1).result, again.task(1).round], ["shorter", null, 2]);
  const mended = place(unowned("completed")).edit((document) => (document.tasks[0]!["result"] = "better"));
  assert.deepEqual([mended.task(1).result, mended.history(1).at(-1)!.event], ["better", "edited"]);
});

test("words of other programs are understood", () => {
  const { task, refusals } = place(unowned("pending"), unowned("pending", { id: 2 })).edit((document) => {
    document.tasks[0]!["status"] = "done";
    delete document.tasks[1]!["status"];
    Object.assign(document.tasks[1]!, { state: "done", user_input: "said otherwise", result: "r" });
  });
  assert.deepEqual(refusals, []);
  assert.deepEqual([task(1).status, task(2).status, task(2).description, task(2).result], ["completed", "completed", "said otherwise", "r"]);
  assert.equal((task(2) as unknown as Fields)["state"], undefined);
});

const BAD: readonly (readonly [string, { readonly [field: string]: Json }, RegExp])[] = [
  ["an unknown status", { status: "nonsense" }, /not a status/],
  ["bookkeeping", { attempts: 7 }, /attempts is bookkeeping/],
  ["a time of its past", { created_at: "2020-01-01T00:00:00.000Z" }, /created_at is bookkeeping/],
  ["the fence", { fence: 9 }, /fence is bookkeeping/],
  ["itself as a dependency", { depends_on: [1] }, /circle/],
  ["a dependency that is not there", { depends_on: [99] }, /99, which does not exist/],
  ["an empty description", { description: " " }, /description/],
  ["a priority that is none", { priority: "high" }, /priority/],
  ["tags that are no list", { tags: "a" }, /tags/],
  ["a time that is none", { run_at: "soon" }, /run_at/],
  ["a key that is taken", { key: "k2" }, /belongs to task 2/],
];

for (const [name, fields, reason] of BAD) {
  test(`${name} is refused with the reason, and the rest of the edit is merged`, () => {
    const { task, refusals, edit } = place(unowned("pending"), unowned("pending", { id: 2, key: "k2" })).edit((document) => {
      Object.assign(document.tasks[0]!, fields, { note: "not alone" });
      document.tasks[1]!["description"] = "changed";
    });
    assert.equal(refusals.length, 1);
    assert.deepEqual([refusals[0]!.task, refusals[0]!.at], [1, "tasks[0]"]);
    assert.match(refusals[0]!.reason, reason);
    assert.deepEqual(task(1), unowned("pending"), "all of the task's edit or nothing");
    assert.equal(task(2).description, "changed");
    assert.deepEqual([edit!.status, edit!.kept, edit!.changes], ["partly", "copy.json", 1]);
  });
}

test("every field that is not bookkeeping may be changed, unknown ones are kept and shown, left out ones are cleared", () => {
  const here = place(unowned("pending", { tags: ["old"], key: "k" }), unowned("completed", { id: 2 }));
  const fields = { description: "new", input: { a: 1 }, queue: "q", priority: 1, tags: ["x", "y"], max_attempts: 9, timeout_ms: 5, verifier: "v", deadline_at: LATER, feedback: "f", color: "red", depends_on: [2] };
  const { task, refusals, tables } = here.edit((document) => {
    Object.assign(document.tasks[0]!, fields);
    delete document.tasks[0]!["key"];
  });
  assert.deepEqual(refusals, []);
  for (const [field, value] of Object.entries(fields)) assert.deepEqual((task(1) as unknown as Fields)[field], value, field);
  assert.equal(task(1).key, null);
  assert.deepEqual(tables.all("tag").map((tag) => tag["tag"]), ["x", "y"]);
  assert.equal(here.shown().tasks[0]!["color"], "red");
  const cleared = here.edit((document) => delete document.tasks[0]!["color"]);
  assert.equal((cleared.task(1) as unknown as Fields)["color"], null);
});

test("what changed since is refused, what did not is merged, what says the same is nothing", () => {
  const here = place(unowned("pending"), unowned("pending", { id: 2 }), unowned("pending", { id: 3 }));
  const since = () => {
    const set = (id: number, fields: Fields) => assert.ok(here.tables.apply({ puts: [{ kind: "task", key: id, set: { ...fields, revision: 2 } }] }, NOW, []).ok);
    set(1, { description: "theirs" });
    set(2, { priority: 2 });
    set(3, { description: "same" });
  };
  const { task, refusals } = here.edit((document) => {
    for (const [i, text] of ["mine", "mine", "same"].entries()) document.tasks[i]!["description"] = text;
  }, { since });
  assert.deepEqual(refusals.map(({ task: id }) => id), [1]);
  assert.match(refusals[0]!.reason, /its description changed since, from "x" to "theirs"/);
  assert.deepEqual([task(1).description, task(2).description, task(2).priority, task(3).description], ["theirs", "mine", 2, "same"]);
});

test("added entries get the next ids; one whose id was assigned meanwhile is renumbered with its references", () => {
  const here = place(unowned("completed"));
  const { task, refusals, history } = here.edit((document) => {
    document.tasks.push({ id: 2, description: "mine" }, { description: "after", depends_on: [2, 1] }, { id: "by-key", user_input: "keyed", note: 1 }, { description: "last", depends_on: ["by-key"] });
    document.tasks.push({ id: 7, description: "free id", status: "completed", result: "r" });
    document.tasks[0]!["depends_on"] = [7];
  }, { since: () => void here.tables.apply({ puts: [{ kind: "task", record: unowned("pending", { id: 2, description: "theirs" }) as unknown as Fields }] }, NOW, []) });
  assert.deepEqual(refusals, []);
  assert.equal(task(2).description, "theirs");
  const all = here.tables.all("task") as unknown as Task[];
  const by = (description: string) => all.find((one) => one.description === description)!;
  assert.deepEqual(by("after").depends_on, [by("mine").id, 1]);
  assert.deepEqual(by("last").depends_on, [by("keyed").id]);
  assert.deepEqual([by("keyed").key, (by("keyed") as unknown as Fields)["note"]], ["by-key", 1]);
  assert.deepEqual([by("free id").id, by("free id").status, task(1).depends_on], [7, "completed", [7]]);
  assert.ok(by("after").ready === false && by("mine").ready);
  assert.equal(history(by("mine").id)[0]!.actor, "editor");
});

const BAD_ENTRIES: readonly (readonly [{ readonly [field: string]: Json }, RegExp])[] = [
  [{ id: 2 }, /what is to be done/], [{ description: "x", status: "in_progress" }, /cannot be in_progress/], [{ description: "x", status: "odd" }, /not a status/],
  [{ description: "x", depends_on: [99] }, /does not exist/], [{ description: "x", depends_on: [3], id: 3 }, /does not exist/], [{ description: "x", id: 1.5 }, /whole number/],
];

test("an added entry that cannot be is refused, the others are added", () => {
  for (const [entry, reason] of BAD_ENTRIES) {
    const { refusals, tables } = place(unowned("pending")).edit((document) => document.tasks.push(entry, { description: "fine" }));
    assert.equal(refusals.length, 1, JSON.stringify(entry));
    assert.match(refusals[0]!.reason, reason);
    assert.equal(tables.all("task").length, 2);
  }
});

test("a removed entry is cancelled; one that ended stays; all at once is a slip", () => {
  const tasks = [unowned("pending"), unowned("completed", { id: 2 }), unowned("pending", { id: 3 })];
  const one = place(...tasks).edit((document) => document.tasks.splice(0, 2));
  assert.equal(one.task(1).status, "cancelled");
  assert.match(one.refusals[0]!.reason, /completed, so it stays/);
  const all = place(...tasks).edit((document) => (document.tasks.length = 0));
  assert.deepEqual(all.refusals.map(({ task }) => task), [1, 2, 3]);
  assert.equal(all.task(1).status, "pending");
  const headless = place(...tasks).edit((document) => document.tasks.splice(0, 1), { headless: true });
  assert.match(headless.refusals[0]!.reason, /without header/);
});

test("dependents follow what an edit completed or took back", () => {
  const here = place(unowned("pending", { has_dependents: true }), unowned("pending", { id: 2, depends_on: [1], ready: false }));
  const done = here.edit((document) => (document.tasks[0]!["status"] = "completed"));
  assert.equal(done.task(2).ready, true);
  const back = here.edit((document) => (document.tasks[0]!["status"] = "pending"));
  assert.equal(back.task(2).ready, false);
});

test("a second save from the same buffer does nothing twice", () => {
  const here = place(unowned("failed", { updated_at: AT }));
  const base = here.shown();
  const save = (change: (document: Document) => void) => {
    change(base2);
    return take(here.tables, { base: { document: base as unknown as Json }, edited: structuredClone(base2) as unknown as Json }, false);
  };
  const base2 = structuredClone(base);
  save((document) => {
    Object.assign(document.tasks[0]!, { status: "pending", attempts: 0 });
    document.tasks.push({ description: "new" }, { description: "new" }, { id: 9, description: "numbered" }, { description: "" });
  });
  assert.equal(here.tables.all("task").length, 4);
  // It ran and failed again before the person saves once more.
  here.tables.apply({ puts: [{ kind: "task", key: 1, set: { status: "failed", revision: 5, error: { message: "again" }, ready: false } }] }, NOW, []);
  const second = save((document) => {
    document.tasks[1]!["tags"] = ["changed since"];
    Object.assign(document.tasks[3]!, { description: "numbered, and changed" });
  });
  assert.equal(second.task(1).status, "failed", "retried once");
  const texts = here.tables.all("task").map((task) => task["description"]);
  assert.equal(texts.filter((text) => text === "numbered").length, 0);
  assert.deepEqual(texts.filter((text) => String(text).startsWith("numbered")), ["numbered, and changed"]);
  assert.deepEqual(second.refusals, [], "what was refused is not refused again");
  const third = save(() => undefined);
  assert.equal(third.edit, null, "nothing new was said");
});

test("a script without header that writes what it read before adds nothing twice, and adds again what it sees", () => {
  const here = place(unowned("pending"));
  const added = (document: Document) => void document.tasks.push({ description: "nightly" });
  const stale = here.shown();
  const save = (revision: number, document: Document) => take(here.tables, { base: { document: here.shown() as unknown as Json }, edited: document as unknown as Json, revision, headless: true }, false);
  added(stale);
  save(1, stale);
  save(2, structuredClone(stale));
  assert.equal(here.tables.all("task").length, 2, "the file does not show the task it added: it was read before");
  const fresh = here.shown();
  added(fresh);
  save(3, fresh);
  assert.equal(here.tables.all("task").length, 3, "this one shows it, so it adds another");
});

test("of batches limits, executor and verifier may be edited; decisions are settled by commands; nothing else has a place", () => {
  const here = place(unowned("pending"));
  for (const [kind, record] of [["batch", { id: "b", source: "/x", queue: "default", limits: { concurrency: 1 }, tokens: 0, created_at: AT, updated_at: AT }], ["decision", { task_id: 1, kind: "approval", status: "open", question: "?", asked_by: "a", created_at: AT }]] as const) {
    assert.ok(here.tables.apply({ puts: [{ kind, record: record as Fields }] }, NOW, []).ok);
  }
  type Rows = { [field: string]: Json }[];
  const ok = here.edit((document) => Object.assign((document["batches"] as Rows)[0]!, { limits: { concurrency: 3 } }));
  assert.deepEqual(ok.refusals, []);
  assert.deepEqual(here.tables.get("batch", "b")!["limits"], { concurrency: 3 });
  const bad = here.edit((document) => {
    Object.assign((document["batches"] as Rows)[0]!, { source: "/y" });
    Object.assign((document["decisions"] as Rows)[0]!, { status: "approved" });
    document["notes"] = "mine";
    document.tasks[0]!["note"] = "fine";
  }, { revision: 2 });
  assert.deepEqual(bad.refusals.map(({ at }) => at).sort(), ["batches[0]", "decisions", "notes"]);
  assert.equal((bad.task(1) as unknown as Fields)["note"], "fine");
});

test("by force what changed and what is owned is taken over; what no command does stays refused", () => {
  const here = place(sample("in_progress"), unowned("pending", { id: 2 }));
  const change = (document: Document) => {
    Object.assign(document.tasks[0]!, { status: "completed", result: "mine" });
    Object.assign(document.tasks[1]!, { description: "mine", attempts: 7 });
  };
  const first = here.edit(change);
  assert.equal(first.refusals.length, 2);
  const forced = here.edit(change, { verdict: { force: { id: first.edit!.id, only: first.refusals.map(({ at }) => at), changes: 0 } }, actor: "ann" });
  assert.deepEqual([forced.task(1).status, forced.task(1).result, forced.task(1).worker, forced.task(1).fence], ["completed", "mine", null, 2]);
  assert.deepEqual([forced.task(2).description, forced.task(2).attempts], ["mine", 0]);
  const record = here.tables.all("edit")[0] as unknown as Edit;
  assert.deepEqual([record.status, record.changes, record.settled_by, record.refusals.length], ["accepted", 2, "ann", 1]);
});
