// A patch is the only way to change an agent's state. It is checked whole before anything is written: an unknown field, a
// wrong type or too much of something changes nothing and says where. Applied, it is a record of its own, never changed, and
// the task's history names it with its hash.

//   append_known_facts   a second value of a key takes the place of the first when it says so; else both hold, and which one
//                        is right becomes an open question, until one of them is superseded or retracted
//   a fact whose source is `user` is superseded by another of the user only: else both hold, as above
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, fingerprint, sameJson, sha256, sortedText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Fields, Kind, Put } from "../store/store.ts";
import type { Agent, ArtifactNote, Entry, Part } from "./agent.ts";
import { record } from "./history.ts";
import { checkShape, objectShape, type Shape } from "./shape.ts";

export type NewFact = {
  readonly key: string;
  readonly value: Json;
  readonly source: string;
  readonly artifact_id?: string;
  readonly confidence?: number;
  /** It takes the place of every value the key has now. */
  readonly supersedes?: boolean;
};

export type Patch = {
  readonly append_known_facts?: readonly NewFact[];
  /** Facts that no longer hold: all values of the key, or this one. */
  readonly retract_facts?: readonly { readonly key: string; readonly value?: Json; readonly reason?: string }[];
  readonly replace_plan?: readonly string[];
  readonly add_open_questions?: readonly string[];
  readonly resolve_questions?: readonly { readonly question: string; readonly answer?: string }[];
  readonly add_artifacts?: readonly ArtifactNote[];
  readonly add_risk_flags?: readonly string[];
  readonly clear_risk_flags?: readonly string[];
  /** The task was reset: nothing holds any more. Made by the loop only; nobody can write it. */
  readonly begin_again?: true;
};

/** A patch that was applied. */
export type PatchRecord = {
  readonly task_id: number;
  /** The revision it led to. */
  readonly revision: number;
  readonly at: string;
  readonly author: string;
  readonly reason: string | null;
  /** The step it comes from. */
  readonly step_key: string | null;
  /** What makes it be applied once, when it was given. */
  readonly op_id: string | null;
  readonly delta: Patch;
  /** Fingerprint of the delta; the transition in the task's history has the same. */
  readonly hash: string;
};

export const PATCH_KIND: Kind = {
  name: "patch",
  fields: { task_id: "integer", revision: "integer", at: "text", author: "text", reason: "text", step_key: "text", op_id: "text", delta: "json", hash: "text" },
  key: ["task_id", "revision"],
  indexes: { once: { fields: ["task_id", "op_id"], unique: true, notNull: ["op_id"] } },
};

const name = (description: string): Shape => ({ type: "string", minLength: 1, maxLength: LIMITS.nameChars - 32, description });
const line = (description: string): Shape => ({ type: "string", minLength: 1, maxLength: LIMITS.agentTextChars, description });
const many = (items: Shape, description: string): Shape => ({ type: "array", items, maxItems: LIMITS.patchItems, description });
const KEY = name("what it is about, such as disk.free");
const SOURCE = name("who says so: user, tool, model");
const CONFIDENCE: Shape = { type: "number", minimum: 0, maximum: 1 };
const QUESTION = line("the question, word for word");

/** A patch as JSON Schema: what a model's tool takes, and what every patch is checked with. */
export const PATCH_SHAPE: Shape = objectShape(
  {
    append_known_facts: many(
      objectShape(
        {
          key: KEY, value: { description: "any JSON; what is large belongs into an artifact" }, source: SOURCE, artifact_id: name("where it comes from"), confidence: CONFIDENCE,
          supersedes: { type: "boolean", description: "it takes the place of what was known under this key" },
        },
        ["key", "value", "source"],
      ),
      "facts learned",
    ),
    retract_facts: many(objectShape({ key: KEY, value: { description: "only this value; without it all values of the key" }, reason: line("why") }, ["key"]), "facts that no longer hold"),
    replace_plan: many(line("a step of the plan"), "the whole plan from now on"),
    add_open_questions: many(QUESTION, "what is not known yet"),
    resolve_questions: many(objectShape({ question: QUESTION, answer: line("the answer") }, ["question"]), "open questions that are answered"),
    add_artifacts: many(objectShape({ artifact_id: name("its id"), type: name("such as tool_result.logs"), summary: line("what is in it"), bytes: { type: "integer", minimum: 0 } }, ["artifact_id", "type", "summary", "bytes"]), "large values kept outside"),
    add_risk_flags: many(name("such as budget_pressure"), "risks to keep in mind"),
    clear_risk_flags: many(name("a flag"), "risks that are over"),
  },
  [],
  "What changes in the state of this run.",
);

/** The patch as it is kept. Throws `usage` or `value_refused`, with the path of what is wrong. */
export function checkPatch(raw: unknown): Patch {
  const patch = canonical(raw, "patch");
  checkShape(PATCH_SHAPE, patch, "patch");
  const bytes = Buffer.byteLength(JSON.stringify(patch));
  if (bytes > LIMITS.patchBytes) throw tooLarge("patch", bytes, LIMITS.patchBytes);
  const checked = patch as unknown as Patch;
  for (const [i, { value }] of (checked.append_known_facts ?? []).entries()) {
    const size = Buffer.byteLength(JSON.stringify(value));
    if (size > LIMITS.factBytes) throw tooLarge(`patch.append_known_facts[${i}].value`, size, LIMITS.factBytes);
  }
  if (Object.keys(checked).length === 0) throw new PawlError("usage", "The patch is empty.", { next: `It takes: ${Object.keys(PATCH_SHAPE.properties!).join(", ")}.`, details: { path: "patch" } });
  return checked;
}

function tooLarge(path: string, bytes: number, most: number): PawlError {
  return new PawlError("value_refused", `${path} has ${bytes} bytes; ${most} is the most.`, { next: "Keep what is large as an artifact and name its id; nothing was changed.", details: { path } });
}

/** The entries a patch must see before it can be applied: those that hold under these keys. */
export function touchedBy(patch: Patch): { readonly part: Part; readonly key: string }[] {
  const facts = [...(patch.append_known_facts ?? []), ...(patch.retract_facts ?? [])].map(({ key }) => key);
  const questions = [...(patch.add_open_questions ?? []), ...(patch.resolve_questions ?? []).map(({ question }) => question)].map(questionKey);
  const of = (part: Part, keys: readonly string[]) => [...new Set(keys)].map((key) => ({ part, key }));
  return [
    ...of("fact", facts), ...of("question", [...questions, ...facts.map(conflictKey)]), ...(patch.replace_plan ? of("plan", [PLAN]) : []),
    ...of("artifact", (patch.add_artifacts ?? []).map(({ artifact_id }) => artifact_id)), ...of("risk_flag", [...(patch.add_risk_flags ?? []), ...(patch.clear_risk_flags ?? [])]),
  ];
}

const PLAN = "plan";
const questionKey = (text: string): string => `q:${sha256(text, 32)}`;
const conflictKey = (factKey: string): string => `conflict:${factKey}`;

export type Applied = { readonly revision: number; readonly entries: number; readonly added: readonly Entry[]; readonly ended: readonly Entry[] };

/** What a checked patch does. Pure; `current` are the entries that hold, at least those it touches. */
export function applyPatch(agent: Pick<Agent, "task_id" | "revision" | "entries">, current: readonly Entry[], patch: Patch): Applied {
  const work = new Work(agent, current);
  if (patch.begin_again) for (const entry of current) work.end(entry, "cleared", null);
  for (const [i, retraction] of (patch.retract_facts ?? []).entries()) retract(work, retraction, `patch.retract_facts[${i}]`);
  for (const fact of patch.append_known_facts ?? []) append(work, fact);
  if (patch.replace_plan) replacePlan(work, patch.replace_plan);
  for (const text of patch.add_open_questions ?? []) if (!work.find("question", questionKey(text))[0]) work.add("question", questionKey(text), text);
  for (const [i, resolution] of (patch.resolve_questions ?? []).entries()) resolve(work, resolution, `patch.resolve_questions[${i}]`);
  for (const { artifact_id, ...note } of patch.add_artifacts ?? []) work.replace("artifact", artifact_id, note, "replaced");
  for (const flag of patch.add_risk_flags ?? []) work.replace("risk_flag", flag, null, "replaced");
  for (const flag of patch.clear_risk_flags ?? []) for (const entry of work.find("risk_flag", flag)) work.end(entry, "cleared", null);
  const facts = [...(patch.append_known_facts ?? []), ...(patch.retract_facts ?? [])];
  for (const key of new Set(facts.map((fact) => fact.key))) settleConflict(work, key);
  return work.result();
}

/** The entries that hold while a patch is applied, and what it did to them. */
class Work {
  readonly #agent: Pick<Agent, "task_id" | "revision" | "entries">;
  readonly #holds: Map<number, Entry>;
  readonly #added = new Map<number, Entry>();
  readonly #ended: Entry[] = [];
  #last: number;

  constructor(agent: Pick<Agent, "task_id" | "revision" | "entries">, current: readonly Entry[]) {
    this.#agent = agent;
    this.#holds = new Map(current.map((entry) => [entry.id, entry]));
    this.#last = agent.entries;
  }

  find(part: Part, key: string): Entry[] {
    return [...this.#holds.values()].filter((entry) => entry.part === part && entry.key === key);
  }

  add(part: Part, key: string, value: Json, of: Partial<Pick<Entry, "source" | "artifact_id" | "confidence">> = {}): void {
    const id = ++this.#last;
    const entry: Entry = {
      task_id: this.#agent.task_id, id, part, key, value, source: null, artifact_id: null, confidence: null, ...of,
      since: this.#agent.revision + 1, until: null, current: true, ended_as: null, note: null,
    };
    this.#holds.set(id, entry);
    this.#added.set(id, entry);
  }

  end(entry: Entry, ended_as: NonNullable<Entry["ended_as"]>, note: string | null): void {
    this.#holds.delete(entry.id);
    // What one patch both adds and ends never held.
    if (this.#added.delete(entry.id)) return;
    this.#ended.push({ ...entry, until: this.#agent.revision + 1, current: false, ended_as, note });
  }

  /** Adds it in the place of what is there, unless that is the same. */
  replace(part: Part, key: string, value: Json, ended_as: NonNullable<Entry["ended_as"]>): void {
    const there = this.find(part, key);
    if (there.some((entry) => sameJson(entry.value, value))) return;
    for (const entry of there) this.end(entry, ended_as, null);
    this.add(part, key, value);
  }

  result(): Applied {
    return { revision: this.#agent.revision + 1, entries: this.#last, added: [...this.#added.values()], ended: this.#ended };
  }
}

function retract(work: Work, { key, value, reason }: NonNullable<Patch["retract_facts"]>[number], path: string): void {
  const found = work.find("fact", key).filter((entry) => value === undefined || sameJson(entry.value, value));
  if (found.length === 0) throw new PawlError("usage", `${path}: nothing is known under "${key}"${value === undefined ? "" : " with this value"}.`, { next: "Retract what is known; nothing was changed.", details: { path } });
  for (const entry of found) work.end(entry, "retracted", reason ?? null);
}

function append(work: Work, { key, value, source, artifact_id, confidence, supersedes }: NewFact): void {
  const known = work.find("fact", key);
  // What people said is not overwritten by what a tool or a model found: both hold, and it is asked which.
  if (supersedes) for (const entry of known) if ((entry.source !== "user" || source === "user") && !sameJson(entry.value, value)) work.end(entry, "superseded", null);
  if (known.some((entry) => sameJson(entry.value, value) && entry.source === source)) return;
  work.add("fact", key, value, { source, artifact_id: artifact_id ?? null, confidence: confidence ?? null });
}

function replacePlan(work: Work, plan: readonly string[]): void {
  if (plan.length > 0) return work.replace("plan", PLAN, plan, "replaced");
  for (const entry of work.find("plan", PLAN)) work.end(entry, "cleared", null);
}

function resolve(work: Work, { question, answer }: NonNullable<Patch["resolve_questions"]>[number], path: string): void {
  const found = work.find("question", questionKey(question));
  if (found.length === 0) throw new PawlError("usage", `${path}: there is no such open question: ${JSON.stringify(question.slice(0, 120))}.`, { next: "Name it word for word. One about two values of a fact ends when one of them is superseded or retracted. Nothing was changed.", details: { path } });
  for (const entry of found) work.end(entry, "resolved", answer ?? null);
}

/** Two values of one key are an open question; one is its answer. */
function settleConflict(work: Work, key: string): void {
  const facts = work.find("fact", key);
  const values = new Map(facts.map((entry) => [sortedText(entry.value), entry]));
  const [asked] = work.find("question", conflictKey(key));
  if (values.size < 2) {
    if (asked) work.end(asked, "resolved", facts[0] ? shown(facts[0].value) : null);
    return;
  }
  const sides = [...values.values()].map((entry) => `${shown(entry.value)} (${entry.source})`);
  work.replace("question", conflictKey(key), `Which value of "${key}" holds: ${sides.join(" or ")}?`.slice(0, LIMITS.agentTextChars), "replaced");
}

const shown = (value: Json): string => JSON.stringify(value).slice(0, 200);

export type PatchBy = { readonly author: string; readonly reason: string | null; readonly step_key: string | null; readonly op_id: string | null; readonly now: number };

/** The record of a patch, and the writes that apply it: agent, entries, patch, and the line in the task's history. */
export function patchPuts(agent: Agent, patch: Patch, applied: Applied, by: PatchBy): { readonly record: PatchRecord; readonly agent: Agent; readonly puts: readonly Put[] } {
  const set = { revision: applied.revision, entries: applied.entries, updated_at: iso(by.now) };
  const made: PatchRecord = { task_id: agent.task_id, revision: applied.revision, at: iso(by.now), author: by.author, reason: by.reason, step_key: by.step_key, op_id: by.op_id, delta: patch, hash: fingerprint(patch as unknown as Json) };
  const puts: Put[] = [
    { kind: "agent", key: agent.task_id, set },
    { kind: "patch", record: made as unknown as Fields },
    ...applied.added.map((entry): Put => ({ kind: "entry", record: entry as unknown as Fields })),
    ...applied.ended.map(({ task_id, id, until, current, ended_as, note }): Put => ({ kind: "entry", key: [task_id, id], set: { until, current, ended_as, note } })),
    record({ task_id: agent.task_id, event: "agent_patched", actor: by.author, from: null, to: null, reason: by.reason, details: { revision: applied.revision, hash: made.hash } }, by.now),
  ];
  return { record: made, agent: { ...agent, ...set }, puts };
}
