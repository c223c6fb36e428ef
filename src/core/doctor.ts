// What is wrong with the records of a state, as rules on what was read: chains, owners, `ready`, references, counters.
// Invariant: looking writes nothing; every rule says what helps, and what a sweep mends by itself is a warning.
import { isPawlError, messageOf } from "../base/errors.ts";
import { finding, type Finding } from "../base/finding.ts";
import type { Counters, Rec, Store } from "../store/store.ts";
import type { Artifact } from "./artifact.ts";
import type { Agent } from "./agent.ts";
import { agentFindings, budgetFindings } from "./agent-doctor.ts";
import { artifactFindings, lostOutput } from "./artifact-doctor.ts";
import { sealFindings, type IsGone, type SealAt, type Site } from "./copy.ts";
import { verifyChain } from "./history.ts";
import { KINDS } from "./kinds.ts";
import { isDue } from "./line.ts";
import { slotFindings, type Slot } from "./slot.ts";
import { untoldChildren, untoldWait } from "./wait-doctor.ts";
import { HELD, type Decision, type Item, type Status, type Step, type Task, type Transition, type Wait } from "./records.ts";

/** A place whose files can be looked at. */
export type Patient = Pick<Site, "location" | "open"> & { diagnose(options: { readonly deep: boolean }): Promise<Finding[]> };

export type Health = {
  readonly state: string;
  /** No errors and no warnings. */
  readonly healthy: boolean;
  readonly findings: readonly Finding[];
  /** How many records of each kind were looked at, and how many histories. */
  readonly records: { readonly [kind: string]: number };
  readonly chains: number;
};

/** Findings after which the records cannot be read, or mean nothing. */
const UNREADABLE: ReadonlySet<string> = new Set(["not_a_file", "not_ours", "newer_format", "unreadable", "journal_missing", "sqlite_damaged", "sqlite_log_alone", "sqlite_setting", "server_unsupported"]);

/** Everything there is to say about a place: its files, its seal, its records. Changes nothing. */
export async function healthOf(site: Patient, options: { readonly deep: boolean; readonly isGone: IsGone; readonly sealAt: SealAt }): Promise<Health> {
  const findings = await site.diagnose({ deep: options.deep });
  let examined: Examined = { findings: [], records: {}, chains: 0 };
  const look = async (): Promise<Examined> => {
    const store = await site.open({ readOnly: true });
    try {
      const seal = await sealFindings(store, options);
      const found = await examine(store, { deep: options.deep, now: store.clock.now() });
      return { ...found, findings: [...seal, ...found.findings] };
    } finally {
      await store.close();
    }
  };
  if (!findings.some(({ code }) => UNREADABLE.has(code))) {
    try {
      examined = await lookTwice(look);
    } catch (error) {
      findings.push(finding("unreadable", site.location, messageOf(error), isPawlError(error) && error.next !== undefined ? { next: error.next } : {}));
    }
  }
  const all = [...findings, ...examined.findings];
  return { state: site.location, healthy: all.every(({ severity }) => severity === "note"), findings: all, records: examined.records, chains: examined.chains };
}

/** What is still found at a second moment: between two commits of somebody at work there may be what looks like a crash. */
export async function lookTwice(look: () => Promise<Examined>): Promise<Examined> {
  const first = await look();
  if (first.findings.every(({ severity }) => severity === "note")) return first;
  const again = await look();
  // Of those that are only counted the number may have changed.
  const nameOf = ({ code, record, message }: Finding) => JSON.stringify(record === undefined ? [code] : [code, record, message]);
  const before = new Set(first.findings.map(nameOf));
  return { ...again, findings: again.findings.filter((one) => before.has(nameOf(one))) };
}

/** What is remembered of every task while the others are looked at. */
type Known = ReadonlyMap<number, { readonly status: Status; readonly run_at: string | null }>;

/** Tasks whose history is read unless all are asked for. */
const SAMPLE = 200;
/** Records read at once. */
const PAGE = 500;
/** Findings of one code that are shown one by one; the rest is counted. */
const SHOWN = 10;

export type Examined = { readonly findings: readonly Finding[]; readonly records: { readonly [kind: string]: number }; readonly chains: number };

/** Looks at every record of a store; at the history of all tasks with `deep`, else of a sample from the whole range. `now` is in ms. */
export async function examine(store: Store, options: { readonly deep: boolean; readonly now: number }): Promise<Examined> {
  const found = new Map<string, Finding[]>();
  const add = (more: readonly Finding[]) => {
    for (const one of more) found.set(one.code, [...(found.get(one.code) ?? []), one].slice(0, SHOWN + 1));
  };
  const totals = new Map<string, number>();
  const all = new Map<string, number>();
  const put = (place: string, more: readonly Finding[]) => {
    for (const { code } of more) all.set(code, (all.get(code) ?? 0) + 1);
    add(more.map((one) => ({ ...one, place })));
  };
  const each = async (kind: string, look: (record: Rec) => readonly Finding[] | Promise<readonly Finding[]>) => {
    for await (const record of recordsOf(store, kind)) {
      totals.set(kind, (totals.get(kind) ?? 0) + 1);
      put(store.location, await look(record));
    }
  };
  const known = new Map<number, { status: Status; run_at: string | null }>();
  for await (const record of recordsOf(store, "task")) known.set(record["id"] as number, { status: record["status"] as Status, run_at: record["run_at"] as string | null });
  const holding = new Map<string, number>();
  await each("task", (record) => (typeof record["slot"] === "string" && holding.set(record["slot"], record["id"] as number), [...taskFindings(record as unknown as Task, known, options.now), ...untoldChildren(record as unknown as Task)]));
  await each("slot", (record) => slotFindings(record as unknown as Slot, holding));
  const explained = taskIsExplained(store, known);
  await each("agent", (record) => (options.deep ? agentFindings(store, record as unknown as Agent) : []));
  await each("budget", budgetFindings);
  const artifacts = new Set<string>();
  await each("artifact", (record) => (artifacts.add(record["id"] as string), artifactFindings(store, record as unknown as Artifact, options.deep)));
  await each("step", async (record) => [...danglingStep(record as unknown as Step, await explained(record["task_id"] as number)), ...lostOutput(record, artifacts)]);
  await each("item", async (record) => danglingItem(record as unknown as Item, await explained(record["task_id"] as number)));
  await each("dependency", (record) => danglingDependency(record as unknown as { task_id: number; depends_on_id: number }, known));
  const decisions = new Map<string, string>();
  await each("decision", (record) => (decisions.set(record["id"] as string, record["status"] as string), danglingDecision(record as unknown as Decision, known)));
  const kept = new Set<string>();
  let events = 0;
  await each("event", ({ id, name, status }) => (status === "kept" && kept.add(name as string), (events = Math.max(events, id as number)), []));
  await each("wait", (record) => [...danglingWait(record as unknown as Wait, known, decisions), ...untoldWait(record as unknown as Wait, known, kept)]);
  put(store.location, lowCounters(await store.counters(), new Map([["task", Math.max(0, ...highest(known.keys()))], ["decision", Math.max(0, ...highest([...decisions.keys()].map((id) => Number(id.slice(1)) || 0)))], ["event", events]])));
  const ids = options.deep ? [...known.keys()] : sampleOf([...known.keys()], SAMPLE);
  for (const id of ids) put(store.location, chainFindings(id, known.get(id)!.status, (await historyOf(store, id))));
  return { findings: [...found.values()].flatMap((list) => counted(list, all)), records: Object.fromEntries(totals), chains: ids.length };
}

/** The first of a code, and how many there are beyond. */
function counted(list: readonly Finding[], all: ReadonlyMap<string, number>): Finding[] {
  const shown = list.slice(0, SHOWN);
  const rest = all.get(list[0]!.code)! - shown.length;
  if (rest <= 0) return shown;
  const { code, place, next } = shown.at(-1)!;
  return [...shown, finding(code, place, `${rest} more like these.`, next === undefined ? {} : { next })];
}

/** The largest, without spreading all of them over the stack. */
function highest(values: Iterable<number>): number[] {
  let most = 0;
  for (const value of values) if (value > most) most = value;
  return [most];
}

/** So many from the whole range, evenly, the last among them. */
export function sampleOf(ids: readonly number[], size: number): number[] {
  if (ids.length <= size) return [...ids];
  return Array.from({ length: size }, (_, i) => ids[Math.floor(((i + 1) * ids.length) / size) - 1]!);
}

async function* recordsOf(store: Store, kind: string, equals?: { readonly [field: string]: string | number }): AsyncIterable<Rec> {
  for (let after: Rec | undefined; ; ) {
    const page = await store.list(kind, { limit: PAGE, ...(equals ? { equals } : {}), ...(after ? { after } : {}) });
    yield* page;
    // Without a pause nothing else in this process would have its turn before the last page.
    await new Promise((resolve) => setImmediate(resolve));
    if (page.length < PAGE) return;
    after = page.at(-1);
  }
}

async function historyOf(store: Store, id: number): Promise<Transition[]> {
  const transitions: Transition[] = [];
  for await (const record of recordsOf(store, "transition", { task_id: id })) transitions.push(record as unknown as Transition);
  return transitions;
}

/** Whether a task is there or was removed by a command: that leaves its steps and its history, which says so last. */
function taskIsExplained(store: Store, known: Known): (id: number) => Promise<boolean> {
  const removed = new Map<number, boolean>();
  return async (id) => {
    if (known.has(id)) return true;
    if (!removed.has(id)) removed.set(id, (await store.list("transition", { equals: { task_id: id }, reverse: true, limit: 1 }))[0]?.["event"] === "removed");
    return removed.get(id)!;
  };
}

/* ---------- the rules ---------- */

/** What a task says that its own fields and its dependencies do not bear out. */
export function taskFindings(task: Task, known: Known, now: number): Finding[] {
  const findings: Finding[] = [];
  const add = (code: "held_without_lease" | "ready_wrong" | "dangling", message: string, next = "pawl doctor --repair") => findings.push(finding(code, "", message, { record: `task ${task.id}`, next }));
  const missing = task.depends_on.filter((id) => !known.has(id));
  if (missing.length > 0) add("dangling", `It depends on ${missing.map((id) => `task ${id}`).join(", ")}, which ${missing.length === 1 ? "is" : "are"} not there: it never becomes ready.`, `pawl edit ${task.id} --depends-on with the ones that are there, or pawl cancel ${task.id}`);
  if (task.status === "in_progress" && task.worker === null) add("held_without_lease", "It is in progress, and nobody owns it.", `pawl reset ${task.id}`);
  if (HELD.has(task.status) && task.worker !== null && (task.lease_expires_at === null || Date.parse(task.lease_expires_at) < now)) {
    add("held_without_lease", `Its owner ${task.worker} has not renewed its lease since ${task.lease_expires_at ?? "ever"}. The next worker takes it over, unless the owner still lives.`, `pawl doctor --repair, or pawl why ${task.id}`);
  }
  if (!HELD.has(task.status) && task.worker !== null) add("held_without_lease", `It is ${task.status}, and still says that ${task.worker} owns it.`, `pawl reset ${task.id}`);
  if (task.status === "pending" && task.run_at === null) {
    const ready = missing.length === 0 && task.depends_on.every((id) => known.get(id)!.status === "completed");
    if (ready !== isDue(task)) add("ready_wrong", ready ? "Nothing keeps it from starting, and yet it is not ready: a crash came between. The next sweep makes it ready." : "It is ready although a task it depends on is not completed.");
  } else if (task.ready && task.status !== "review") add("ready_wrong", task.status === "pending" ? "It is ready although its time has not come." : `It is ${task.status} and yet ready.`);
  return findings;
}

/** What its history says against it: a broken chain, or a status the last entry does not lead to. */
export function chainFindings(id: number, status: Status, transitions: readonly Transition[]): Finding[] {
  const record = `task ${id}`;
  const broken = verifyChain(transitions);
  if (broken !== null) {
    return [finding("chain_broken", "", `Entry ${broken} of its history does not follow from the one before: it, or what stood before it, was changed from outside.`, { record, next: `pawl history ${id}; a backup has the history as it was` })];
  }
  const last = transitions.findLast(({ to_status }) => to_status !== null);
  if (last?.to_status === status) return [];
  const why = last ? `its history ends at ${last.to_status}` : "it has no history";
  return [finding("status_unexplained", "", `It is ${status}, but ${why}: somebody wrote past Pawl.`, { record, next: `pawl history ${id}, then pawl reset ${id}` })];
}

const AWAY = "It does no harm; a backup may have what it belonged to.";

function danglingStep(step: Step, explained: boolean): Finding[] {
  return explained ? [] : [finding("dangling", "", `Its task ${step.task_id} is not there, and was never removed.`, { record: `step ${step.key} of task ${step.task_id}`, next: AWAY })];
}

function danglingItem(item: Item, explained: boolean): Finding[] {
  return explained ? [] : [finding("dangling", "", `Its task ${item.task_id} is not there, and was never removed: the batch is one short.`, { record: `item ${item.key} of ${item.batch_id}`, next: AWAY })];
}

function danglingDependency(edge: { readonly task_id: number; readonly depends_on_id: number }, known: Known): Finding[] {
  return known.has(edge.task_id) ? [] : [finding("dangling", "", `Task ${edge.task_id}, which depended on task ${edge.depends_on_id}, is not there.`, { record: `dependency ${edge.task_id}/${edge.depends_on_id}`, next: AWAY })];
}

function danglingDecision(decision: Decision, known: Known): Finding[] {
  if (decision.status !== "open" || decision.task_id === null || known.has(decision.task_id)) return [];
  return [finding("dangling", "", `It is open, and its task ${decision.task_id} is not there.`, { record: `decision ${decision.id}`, next: `pawl deny ${decision.id} --reason "its task is gone"` })];
}

function danglingWait(wait: Wait, known: Known, decisions: ReadonlyMap<string, string>): Finding[] {
  if (wait.status !== "open") return [];
  const record = `wait ${wait.key} of task ${wait.task_id}`;
  if (!known.has(wait.task_id)) return [finding("dangling", "", `It is open, and its task ${wait.task_id} is not there.`, { record, next: AWAY })];
  if (wait.decision_id === null || decisions.get(wait.decision_id) === "open") return [];
  return [finding("dangling", "", `It waits for decision ${wait.decision_id}, which is ${decisions.get(wait.decision_id) ?? "not there"}: nobody will ever wake the task.`, { record, next: `pawl reset ${wait.task_id}` })];
}

/** A counter below an id that was given: the id would be given again, and the new record would replace the old one. */
export function lowCounters(counters: Counters, used: ReadonlyMap<string, number>): Finding[] {
  return KINDS.filter(({ assign }) => assign !== undefined).flatMap(({ name }) => {
    const [counter, highest] = [counters[name] ?? 0, used.get(name) ?? 0];
    return counter >= highest ? [] : [finding("counter_low", "", `Ids of ${name} were given up to ${highest}, but the counter stands at ${counter}.`, { record: name, next: "Copy the state to a new place, which counts anew: pawl copy FROM TO." })];
  });
}
