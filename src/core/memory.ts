// A memory is one remembered entity–attribute–value with its source and confidence. A new value supersedes the old one, which
// stays; how sure a memory is fades with the days since somebody verified it, and is computed when read, never stored.
// Invariant: every change of what an attribute is now goes through its one slot record, so two writers never miss each other.

//   (none) ── remember ──▶ current ── another value of the same source, of a person, or said to supersede ──▶ superseded
//                           │   ▲ └── the same value again, or verify ─▶ current, verified now
//                           │   └──── two sources, two values, neither supersedes: both stay, a conflict
//                           └── forget ──▶ forgotten (with `erase` its content is gone)
import { iso, parseIso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { canonical, sameJson, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { redact } from "../base/redact.ts";
import type { Addition, Change, Fields, Guard, Kind, Put } from "../store/store.ts";
import { wordsOf } from "./search.ts";

export type MemoryStatus = "current" | "superseded" | "forgotten";

export type Memory = {
  readonly id: string;
  readonly entity: string;
  readonly attribute: string;
  /** Entity and attribute as they are compared: case, width and spacing make no difference. */
  readonly entity_key: string;
  readonly attribute_key: string;
  readonly value: Json;
  /** What helps to understand it; searched, never compared. */
  readonly context: Json;
  /** Whose word it is: `user` for a person, else a tool, an agent, a program. */
  readonly source: string;
  /** How sure the source was, 0 to 1. */
  readonly confidence: number;
  readonly status: MemoryStatus;
  readonly superseded_by: string | null;
  readonly created_by: string;
  readonly created_at: string;
  readonly verified_by: string;
  readonly verified_at: string;
  readonly verifications: number;
  readonly ended_by: string | null;
  readonly ended_at: string | null;
  readonly reason: string | null;
  /** Its value and context were taken out. */
  readonly erased: boolean;
};

/** What an attribute of an entity is now, as the one place where writers meet. */
export type Slot = { readonly entity_key: string; readonly attribute_key: string; readonly revision: number; readonly current: number; readonly conflicted: boolean };

/** One entity's relation to another, such as `works_at`. `same_as` makes two names one entity when recalled. */
export type Relation = {
  readonly from_key: string;
  readonly type: string;
  readonly to_key: string;
  readonly from_entity: string;
  readonly to_entity: string;
  readonly source: string;
  readonly status: "current" | "forgotten";
  readonly created_by: string;
  readonly created_at: string;
  readonly ended_by: string | null;
  readonly ended_at: string | null;
};

export const MEMORY_KINDS: readonly Kind[] = [
  {
    name: "memory",
    fields: {
      id: "text", entity: "text", attribute: "text", entity_key: "text", attribute_key: "text", value: "json", context: "json", source: "text", confidence: "real",
      status: "text", superseded_by: "text", created_by: "text", created_at: "text", verified_by: "text", verified_at: "text", verifications: "integer",
      ended_by: "text", ended_at: "text", reason: "text", erased: "boolean",
    },
    key: ["id"],
    assign: "m",
    indexes: {
      slot: { fields: ["entity_key", "attribute_key", "status", "created_at"] },
      entity: { fields: ["entity_key", "created_at"], where: { status: "current" } },
      attribute: { fields: ["attribute_key", "created_at"], where: { status: "current" } },
      current: { fields: ["created_at"], where: { status: "current" } },
      created: { fields: ["created_at"] },
    },
  },
  {
    name: "memory_slot",
    fields: { entity_key: "text", attribute_key: "text", revision: "integer", current: "integer", conflicted: "boolean" },
    key: ["entity_key", "attribute_key"],
    indexes: { conflicted: { fields: ["entity_key"], where: { conflicted: true } } },
  },
  // The words of current memories: what a search reads.
  { name: "memory_word", fields: { word: "text", memory_id: "text", rank: "integer" }, key: ["word", "memory_id"], indexes: { rank: { fields: ["word", "rank"] } } },
  { name: "memory_total", fields: { name: "text", memories: "integer" }, key: ["name"], indexes: {} },
  {
    name: "relation",
    fields: {
      from_key: "text", type: "text", to_key: "text", from_entity: "text", to_entity: "text", source: "text", status: "text", created_by: "text", created_at: "text",
      ended_by: "text", ended_at: "text",
    },
    key: ["from_key", "type", "to_key"],
    indexes: { from: { fields: ["from_key", "type"], where: { status: "current" } }, to: { fields: ["to_key", "type"], where: { status: "current" } } },
  },
];

/** The relation that makes two names one entity. */
export const SAME_AS = "same_as";

export type NewMemory = {
  readonly entity: string;
  readonly attribute: string;
  readonly value: unknown;
  readonly context?: unknown;
  readonly source?: string | undefined;
  /** 0 to 1; default 1. */
  readonly confidence?: number | undefined;
  /** Supersedes what other sources say as well. */
  readonly supersede?: boolean | undefined;
  /** Kept although it looks like a key or a password. */
  readonly allowSecret?: boolean | undefined;
};

export type By = { readonly actor: string; readonly now: number };

/* ---------- what is checked ---------- */

/** An entity as it is compared. */
export const entityKey = (entity: string): string => checkName("entity", entity).normalize("NFKC").toLowerCase().replace(/\s+/gu, " ").trim();

/** An attribute as it is compared: spaces, dashes and underscores are the same. */
export const attributeKey = (attribute: string): string => checkName("attribute", attribute).normalize("NFKC").toLowerCase().trim().replace(/[\s_-]+/gu, "_");

export function checkName(what: string, name: unknown): string {
  if (typeof name === "string" && name.trim() !== "" && name.length <= LIMITS.nameChars && !/[\u0000-\u001f\u007f]/.test(name)) return name;
  throw new PawlError("usage", `The ${what} must be 1 to ${LIMITS.nameChars} characters on one line, not ${JSON.stringify(name)?.slice(0, 80)}.`, { next: "Put what is longer into the value." });
}

function checkConfidence(confidence: number): number {
  if (typeof confidence === "number" && confidence >= 0 && confidence <= 1) return confidence;
  throw new PawlError("usage", `The confidence must be a number from 0 to 1, not ${confidence}.`);
}

/** True for what looks like a key, a token or a password. It stops the accident, not the intent. */
export function looksSecret(attribute_key: string, value: Json): boolean {
  const changed = (json: Json) => !sameJson(redact(json), json);
  // A sentence under a telling name, such as where a password is kept, is none.
  return changed(value) || (typeof value === "string" && /^\S{8,}$/.test(value) && changed({ [attribute_key]: value }));
}

/** The memory as it is kept. Throws `usage` or `value_refused` with what is wrong. */
export function checkMemory(memory: NewMemory, actor: string): Pick<Memory, "entity" | "attribute" | "entity_key" | "attribute_key" | "value" | "context" | "source" | "confidence"> {
  const [entity_key, attribute_key] = [entityKey(memory.entity), attributeKey(memory.attribute)];
  const value = canonical(memory.value, "value");
  const context = canonical(memory.context ?? null, "context");
  if (value === null) throw new PawlError("usage", "A memory needs a value.", { next: "To take one back: pawl memory forget ID." });
  for (const [what, json] of [["value", value], ["context", context]] as const) {
    const text = JSON.stringify(json);
    if (text.length > LIMITS.memoryBytes) throw new PawlError("value_refused", `The ${what} of a memory has ${text.length} characters; at most ${LIMITS.memoryBytes} are kept.`, { next: "Put it as an artifact, and remember its id: pawl artifact put FILE." });
    if (memory.allowSecret !== true && looksSecret(attribute_key, json)) {
      throw new PawlError("value_refused", `The ${what} of ${memory.entity} ${memory.attribute} looks like a key or a password, and a state is no place for secrets.`, {
        next: "Remember where it is kept instead. If it is none: --allow-secret.", details: { entity: memory.entity, attribute: memory.attribute },
      });
    }
  }
  const source = checkName("source", memory.source ?? actor);
  return { entity: memory.entity.trim(), attribute: memory.attribute.trim(), entity_key, attribute_key, value, context, source, confidence: checkConfidence(memory.confidence ?? 1) };
}

/* ---------- the rules ---------- */

/** What is read of an attribute before anything is decided about it. */
export type Standing = { readonly slot: Slot | null; readonly current: readonly Memory[]; readonly counted: boolean };

export type Remembered = { readonly change: Change; /** Null: the store gives it. */ readonly id: string | null; readonly supersedes: readonly string[] };

const isPerson = (source: string): boolean => source === "user" || source.startsWith("user:");

/** Remembers a value: a new memory, or one that is known verified again; supersedes what it may. */
export function remember(standing: Standing, fields: ReturnType<typeof checkMemory>, supersede: boolean, by: By): Remembered {
  const { current } = standing;
  const same = current.find((memory) => sameJson(memory.value, fields.value));
  const others = current.filter((memory) => memory !== same);
  const ended = others.filter(({ source }) => supersede || source === fields.source || isPerson(fields.source));
  const left = others.length - ended.length;
  const puts: Put[] = [same ? verifyPut(same, fields.confidence, by) : { kind: "memory", record: newMemory(fields, by) }];
  if (!same) puts.push(...wordPuts(fields, { $new: 0 }));
  for (const memory of ended) puts.push(...endPuts(memory, { status: "superseded", superseded_by: same ? same.id : { $new: 0 } }, by));
  return {
    change: slotChange(standing, fields, { puts, current: left + 1, added: (same ? 0 : 1) - ended.length }),
    id: same?.id ?? null,
    supersedes: ended.map(({ id }) => id),
  };
}

function newMemory(fields: ReturnType<typeof checkMemory>, { actor, now }: By): Fields {
  return { ...fields, status: "current", created_by: actor, created_at: iso(now), verified_by: actor, verified_at: iso(now), verifications: 0, erased: false };
}

function verifyPut(memory: Memory, confidence: number | undefined, { actor, now }: By): Put {
  const surer = confidence === undefined ? memory.confidence : Math.max(memory.confidence, confidence);
  return { kind: "memory", key: memory.id, set: { verified_by: actor, verified_at: iso(now), verifications: memory.verifications + 1, confidence: surer } };
}

/** Somebody made sure of it: its confidence counts from now. With `confidence` it is the new base. */
export function verify(standing: Standing, memory: Memory, confidence: number | undefined, by: By): Change {
  if (memory.status !== "current") throw notCurrent(memory);
  const put = verifyPut(memory, undefined, by) as { kind: string; key: string; set: Fields };
  const set = confidence === undefined ? put.set : { ...put.set, confidence: checkConfidence(confidence) };
  return slotChange(standing, memory, { puts: [{ ...put, set }], current: standing.current.length, added: 0 });
}

function notCurrent({ id, status, superseded_by }: Memory): PawlError {
  return new PawlError("illegal_transition", `Memory ${id} is ${status}${superseded_by ? ` by ${superseded_by}` : ""}, and what is not remembered any more cannot be verified.`, {
    next: superseded_by ? `Verify the one that took its place: pawl memory verify ${superseded_by}.` : "Store it anew: pawl memory store ENTITY ATTRIBUTE VALUE.", details: { id, status },
  });
}

export type Forgetting = { readonly erase?: boolean | undefined; readonly reason?: string | null | undefined };

/** Takes memories of one attribute out of recall and search. They stay as tombstones, with `erase` without their content. */
export function forget(standing: Standing, memories: readonly Memory[], { erase = false, reason = null }: Forgetting, by: By): Change {
  const gone = standing.current.filter(({ id }) => memories.some((memory) => memory.id === id));
  const puts = memories.flatMap((memory): Put[] => {
    const content = erase && !memory.erased ? { value: null, context: null, erased: true } : {};
    if (memory.status === "current") return endPuts(memory, { status: "forgotten", reason, ...content }, by);
    return erase && !memory.erased ? [{ kind: "memory", key: memory.id, set: { ...content, reason: reason ?? memory.reason } }] : [];
  });
  return slotChange(standing, memories[0]!, { puts, current: standing.current.length - gone.length, added: -gone.length });
}

function endPuts(memory: Memory, set: Fields, { actor, now }: By): Put[] {
  const words = wordPuts(memory, memory.id).map((put): Put => ({ kind: "memory_word", key: [(put.record as { word: string }).word, memory.id], delete: true }));
  return [{ kind: "memory", key: memory.id, set: { ...set, ended_by: actor, ended_at: iso(now) } }, ...words];
}

function wordPuts(memory: Pick<Memory, "entity" | "attribute" | "value" | "context">, memory_id: Fields[string]): { kind: string; record: Fields }[] {
  return wordsOf(memory).map(({ word, rank }) => ({ kind: "memory_word", record: { word, memory_id: memory_id!, rank } }));
}

/** A change of what an attribute is now: guarded by its slot, counted in the total. */
function slotChange({ slot, counted }: Standing, key: Pick<Slot, "entity_key" | "attribute_key">, { puts, current, added }: { puts: readonly Put[]; current: number; added: number }): Change {
  const { entity_key, attribute_key } = key;
  const guard: Guard = slot ? { kind: "memory_slot", key: [entity_key, attribute_key], is: { revision: slot.revision } } : { kind: "memory_slot", key: [entity_key, attribute_key], absent: true };
  const record = { entity_key, attribute_key, revision: (slot?.revision ?? 0) + 1, current, conflicted: current > 1 };
  const first: Guard[] = counted ? [] : [{ kind: "memory_total", key: "all", absent: true }];
  const total: Put[] = counted ? [] : [{ kind: "memory_total", record: { name: "all", memories: added } }];
  const additions: Addition[] = counted && added !== 0 ? [{ kind: "memory_total", key: "all", field: "memories", n: added }] : [];
  return { guards: [guard, ...first], puts: [...puts, { kind: "memory_slot", record }, ...total], additions };
}

/* ---------- reading ---------- */

const DAY_MS = 86_400_000;

/** How sure a memory is now: its confidence, halved for every `halfLifeDays` since it was verified. */
export function effectiveConfidence(memory: Pick<Memory, "confidence" | "verified_at">, now: number, halfLifeDays: number = LIMITS.memoryHalfLifeDays): number {
  const days = Math.max(0, now - parseIso(memory.verified_at)) / DAY_MS;
  return memory.confidence * 2 ** (-days / halfLifeDays);
}

/** A memory as it is read: how sure it is now, and what contradicts it. */
export type Recalled = Memory & { readonly effective_confidence: number; /** Current memories of the same attribute with another value. */ readonly conflicts: readonly string[] };

export function relate(before: Relation | null, fields: { readonly from: string; readonly to: string; readonly type: string; readonly source: string }, remove: boolean, { actor, now }: By): Change {
  const [from_key, to_key, type] = [entityKey(fields.from), entityKey(fields.to), attributeKey(fields.type)];
  if (from_key === to_key) throw new PawlError("usage", `"${fields.from}" cannot be related to itself.`, { next: "Name two entities." });
  const key = [from_key, type, to_key];
  if (remove) {
    if (before?.status !== "current") throw new PawlError("not_found", `"${fields.from}" is not remembered as ${type} "${fields.to}".`, { next: `See its relations: pawl memory relations "${fields.from}".` });
    return { puts: [{ kind: "relation", key, set: { status: "forgotten", ended_by: actor, ended_at: iso(now) } }] };
  }
  if (before?.status === "current") return { puts: [] };
  const record = { from_key, type, to_key, from_entity: fields.from.trim(), to_entity: fields.to.trim(), source: checkName("source", fields.source), status: "current", created_by: actor, created_at: iso(now) };
  return { puts: [{ kind: "relation", record }] };
}
