// The verbs of memory: read how an attribute stands, decide, commit, decide again when somebody else was faster.
// Invariants: an attribute's slot record guards each of its changes, so of two values one sees the other; a search costs the
// same however much is remembered, and gives the same on every store.
import { PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Rec } from "../store/store.ts";
import { TRIES, type Committer } from "./committer.ts";
import {
  attributeKey, checkMemory, effectiveConfidence, entityKey, forget, relate, remember, SAME_AS, verify,
  type Forgetting, type Memory, type MemoryStatus, type NewMemory, type Recalled, type Relation, type Slot, type Standing,
} from "./memory.ts";
import { queryWords, score, type Found } from "./search.ts";

export type Stored = { readonly memory: Recalled; /** What it took the place of. */ readonly supersedes: readonly string[]; /** It was known already, and is verified now. */ readonly known: boolean };

/** Remembers a value. Throws `usage`, `value_refused`. */
export async function storeMemory(committer: Committer, memory: NewMemory, actor: string): Promise<Stored> {
  const fields = checkMemory(memory, actor);
  for (let i = 0; i < TRIES; i++) {
    const standing = await standingOf(committer, fields);
    const { change, id, supersedes } = remember(standing, fields, memory.supersede === true, { actor, now: committer.store.clock.now() });
    const result = await committer.commit(change);
    if (result.ok) return { memory: await recalledOf(committer, id ?? (result.ids[0] as string)), supersedes, known: id !== null };
    if ("error" in result) throw result.error;
  }
  throw contended(fields);
}

const contended = ({ entity_key, attribute_key }: Pick<Slot, "entity_key" | "attribute_key">): PawlError =>
  new PawlError("conflict", `What is remembered of ${entity_key} ${attribute_key} changes faster than this command can decide about it.`, { next: "Try again." });

async function standingOf(committer: Committer, { entity_key, attribute_key }: Pick<Slot, "entity_key" | "attribute_key">): Promise<Standing> {
  const { store } = committer;
  // The slot first: whoever changes what is current changes it too, so an older slot is noticed at the commit.
  const [slot] = (await store.get("memory_slot", [[entity_key, attribute_key]])) as unknown as (Slot | null)[];
  const [current, [total]] = await Promise.all([store.list("memory", { index: "slot", equals: { entity_key, attribute_key, status: "current" } }), store.get("memory_total", ["all"])]);
  return { slot: slot ?? null, current: current as unknown as Memory[], counted: total !== null };
}

export async function getMemory(committer: Committer, id: string): Promise<Memory> {
  const [memory] = await committer.store.get("memory", [id]);
  if (!memory) throw new PawlError("not_found", `memory not found: ${id}`, { next: "See what there is: pawl memory list.", details: { id } });
  return memory as unknown as Memory;
}

const recalledOf = async (committer: Committer, id: string): Promise<Recalled> => (await asRecalled(committer, [await getMemory(committer, id)], {}))[0]!;

/** Settles one memory, or several of one attribute, as they stand. */
async function change(committer: Committer, memory: Memory, decide: (standing: Standing) => Promise<Change>): Promise<void> {
  for (let i = 0; i < TRIES; i++) {
    const result = await committer.commit(await decide(await standingOf(committer, memory)));
    if (result.ok) return;
    if ("error" in result) throw result.error;
  }
  throw contended(memory);
}

/** Somebody made sure of it: its confidence counts from now, and from `confidence` when it is given. */
export async function verifyMemory(committer: Committer, id: string, options: { readonly confidence?: number | undefined; readonly actor: string }): Promise<Recalled> {
  await change(committer, await getMemory(committer, id), async (standing) =>
    verify(standing, await getMemory(committer, id), options.confidence, { actor: options.actor, now: committer.store.clock.now() }));
  return recalledOf(committer, id);
}

/** What to forget: one memory, or all of an entity, or of one attribute of it. */
export type ForgetTarget = { readonly id: string } | { readonly entity: string; readonly attribute?: string | undefined };

/** Takes memories out of recall and search. With `erase` their content goes too, also of those superseded before. Returns them. */
export async function forgetMemories(committer: Committer, target: ForgetTarget, options: Forgetting & { readonly actor: string }): Promise<Memory[]> {
  const found = "id" in target ? [await getMemory(committer, target.id)] : await slotMemories(committer, target);
  const concerned = found.filter(({ status, erased }) => status === "current" || (options.erase === true && !erased));
  if (concerned.length === 0) throw new PawlError("not_found", "id" in target ? `Memory ${target.id} is ${found[0]!.status} already.` : `Nothing is remembered of ${target.entity}${target.attribute ? ` ${target.attribute}` : ""}.`, { next: "See what there is: pawl memory list --all." });
  for (const [first, ...rest] of Map.groupBy(concerned, ({ attribute_key, entity_key }) => `${entity_key}\n${attribute_key}`).values()) {
    const ids = [first!, ...rest].map(({ id }) => id);
    await change(committer, first!, async (standing) => forget(standing, (await committer.store.get("memory", ids)) as unknown as Memory[], options, { actor: options.actor, now: committer.store.clock.now() }));
  }
  return (await committer.store.get("memory", concerned.map(({ id }) => id))) as unknown as Memory[];
}

async function slotMemories(committer: Committer, target: { readonly entity: string; readonly attribute?: string | undefined; readonly status?: MemoryStatus }): Promise<Memory[]> {
  const equals = { entity_key: entityKey(target.entity), ...(target.attribute === undefined ? {} : { attribute_key: attributeKey(target.attribute) }) };
  const found: Rec[] = [];
  for await (const record of paged(committer, "memory", { index: "slot", equals })) found.push(record);
  return found as unknown as Memory[];
}

async function* paged(committer: Committer, kind: string, query: { readonly index: string; readonly equals?: { readonly [field: string]: string }; readonly reverse?: boolean }, size = 200): AsyncIterable<Rec> {
  for (let after: Rec | undefined; ; ) {
    const page = await committer.store.list(kind, { ...query, limit: size, ...(after ? { after } : {}) });
    yield* page;
    if (page.length < size) return;
    after = page.at(-1);
  }
}

/* ---------- reading ---------- */

export type Decay = { /** Leave out what is less sure than this by now. */ readonly minConfidence?: number | undefined; readonly halfLifeDays?: number | undefined };
export type RecallOptions = Decay & { readonly entity?: string | undefined; readonly attribute?: string | undefined; readonly limit?: number | undefined };

/** What is remembered now, newest first. An entity is known by every name that is `same_as` it. */
export async function recall(committer: Committer, options: RecallOptions = {}): Promise<Recalled[]> {
  const limit = options.limit ?? 20;
  const attribute_key = options.attribute === undefined ? undefined : attributeKey(options.attribute);
  const names = options.entity === undefined ? [undefined] : await namesOf(committer, entityKey(options.entity));
  const queries = names.map((entity_key) => currentOf(entity_key, attribute_key));
  const found = await Promise.all(queries.map((query) => firstSure(committer, query, options, limit)));
  const newest = found.flat().sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : numberOf(b.id) - numberOf(a.id))).slice(0, limit);
  return asRecalled(committer, newest, options);
}

function currentOf(entity_key: string | undefined, attribute_key: string | undefined): { readonly index: string; readonly equals?: { readonly [field: string]: string } } {
  if (entity_key === undefined) return attribute_key === undefined ? { index: "current" } : { index: "attribute", equals: { attribute_key } };
  return attribute_key === undefined ? { index: "entity", equals: { entity_key } } : { index: "slot", equals: { entity_key, attribute_key, status: "current" } };
}

const numberOf = (id: string): number => Number(id.slice(1));

async function firstSure(committer: Committer, query: { readonly index: string; readonly equals?: { readonly [field: string]: string } }, options: Decay, limit: number): Promise<Memory[]> {
  const sure: Memory[] = [];
  for await (const record of paged(committer, "memory", { ...query, reverse: true }, Math.min(limit, 200))) {
    const memory = record as unknown as Memory;
    if (isSure(committer, memory, options)) sure.push(memory);
    if (sure.length >= limit) break;
  }
  return sure;
}

function isSure(committer: Committer, memory: Memory, { minConfidence, halfLifeDays }: Decay): boolean {
  return minConfidence === undefined || effectiveConfidence(memory, committer.store.clock.now(), halfLifeDays) >= minConfidence;
}

/** The keys under which an entity is known. */
async function namesOf(committer: Committer, key: string): Promise<string[]> {
  const [from, to] = await Promise.all([
    committer.store.list("relation", { index: "from", equals: { from_key: key, type: SAME_AS }, limit: 50 }),
    committer.store.list("relation", { index: "to", equals: { to_key: key, type: SAME_AS }, limit: 50 }),
  ]);
  return [...new Set([key, ...from.map((relation) => relation["to_key"] as string), ...to.map((relation) => relation["from_key"] as string)])];
}

/** Memories with what is known only when they are read. */
async function asRecalled(committer: Committer, memories: readonly Memory[], { halfLifeDays }: Decay): Promise<Recalled[]> {
  const { store } = committer;
  const now = store.clock.now();
  const keys = new Map(memories.map(({ entity_key, attribute_key }) => [`${entity_key}\n${attribute_key}`, [entity_key, attribute_key] as const]));
  const slots = (await store.get("memory_slot", [...keys.values()])) as unknown as (Slot | null)[];
  const against = new Map<string, Memory[]>();
  for (const slot of slots) {
    if (!slot?.conflicted) continue;
    const { entity_key, attribute_key } = slot;
    against.set(`${entity_key}\n${attribute_key}`, (await store.list("memory", { index: "slot", equals: { entity_key, attribute_key, status: "current" } })) as unknown as Memory[]);
  }
  return memories.map((memory) => {
    const others = memory.status === "current" ? (against.get(`${memory.entity_key}\n${memory.attribute_key}`) ?? []) : [];
    return { ...memory, effective_confidence: effectiveConfidence(memory, now, halfLifeDays), conflicts: others.filter(({ id }) => id !== memory.id).map(({ id }) => id) };
  });
}

export type SearchOptions = Decay & { readonly limit?: number | undefined };
export type FoundMemory = Recalled & { readonly score: number };

/** Memories that have words of the query, best first; of very common words only where they weigh most. */
export async function searchMemories(committer: Committer, query: string, options: SearchOptions = {}): Promise<FoundMemory[]> {
  const words = queryWords(query);
  if (words.length === 0) return [];
  const [found, [total]] = await Promise.all([Promise.all(words.map((word) => findWord(committer, word))), committer.store.get("memory_total", ["all"])]);
  const memories = (total?.["memories"] as number | undefined) ?? 0;
  const limit = options.limit ?? 10;
  const ranked = score(await completed(committer, found, score(found, memories).slice(0, Math.max(4 * limit, 100)).map(({ id }) => id)), memories);
  const best: { readonly memory: Memory; readonly score: number }[] = [];
  for (let i = 0; i < ranked.length && best.length < limit; i += limit) {
    const page = ranked.slice(i, i + limit);
    const records = (await committer.store.get("memory", page.map(({ id }) => id))) as unknown as (Memory | null)[];
    // Forgotten or superseded between the two reads.
    records.forEach((memory, j) => void (memory?.status === "current" && isSure(committer, memory, options) && best.push({ memory, score: page[j]!.score })));
  }
  const recalled = await asRecalled(committer, best.slice(0, limit).map(({ memory }) => memory), options);
  return recalled.map((memory, i) => ({ ...memory, score: best[i]!.score }));
}

async function findWord(committer: Committer, word: string): Promise<Found> {
  const { store } = committer;
  const postings = (await store.list("memory_word", { index: "rank", equals: { word }, reverse: true, limit: LIMITS.searchCandidates })) as unknown as Found["postings"];
  const all = postings.length < LIMITS.searchCandidates ? postings.length : await store.count("memory_word", { index: "rank", equals: { word } });
  return { word, postings, memories: all };
}

/** The best candidates with the weights that the reading of a common word left out. */
async function completed(committer: Committer, found: readonly Found[], ids: readonly string[]): Promise<Found[]> {
  const wanted = new Set(ids);
  return Promise.all(found.map(async (one) => {
    const postings = one.postings.filter(({ memory_id }) => wanted.has(memory_id));
    if (one.postings.length === one.memories) return { ...one, postings };
    const read = new Set(postings.map(({ memory_id }) => memory_id));
    const missing = await committer.store.get("memory_word", ids.filter((id) => !read.has(id)).map((id) => [one.word, id]));
    return { ...one, postings: [...postings, ...(missing.filter((posting) => posting !== null) as unknown as Found["postings"])] };
  }));
}

/** Attributes for which sources disagree, with what each says. */
export type MemoryConflict = { readonly entity: string; readonly attribute: string; readonly memories: readonly Recalled[] };

export async function memoryConflicts(committer: Committer, options: { readonly entity?: string | undefined; readonly limit?: number | undefined } = {}): Promise<MemoryConflict[]> {
  const equals = options.entity === undefined ? {} : { equals: { entity_key: entityKey(options.entity) } };
  const slots = (await committer.store.list("memory_slot", { index: "conflicted", ...equals, limit: options.limit ?? 100 })) as unknown as Slot[];
  const found = await Promise.all(slots.map(async ({ entity_key, attribute_key }) => {
    const memories = await asRecalled(committer, (await committer.store.list("memory", { index: "slot", equals: { entity_key, attribute_key, status: "current" } })) as unknown as Memory[], {});
    return { entity: memories[0]?.entity ?? entity_key, attribute: memories[0]?.attribute ?? attribute_key, memories };
  }));
  return found.filter(({ memories }) => memories.length > 1);
}

export type MemoryFilter = { readonly entity?: string | undefined; readonly attribute?: string | undefined; readonly all?: boolean | undefined; readonly limit?: number | undefined };

/** Memories newest first; with `all` also what was superseded and forgotten. */
export async function listMemories(committer: Committer, filter: MemoryFilter = {}): Promise<Recalled[]> {
  const limit = filter.limit ?? 100;
  if (!filter.all) return recall(committer, { entity: filter.entity, attribute: filter.attribute, limit });
  if (filter.entity === undefined && filter.attribute !== undefined) throw new PawlError("usage", "The history of an attribute needs its entity.", { next: "Name it: --entity NAME." });
  const found = filter.entity === undefined
    ? ((await committer.store.list("memory", { index: "created", reverse: true, limit })) as unknown as Memory[])
    : (await slotMemories(committer, { entity: filter.entity, attribute: filter.attribute })).sort((a, b) => numberOf(b.id) - numberOf(a.id)).slice(0, limit);
  return asRecalled(committer, found, {});
}

/* ---------- relations ---------- */

export type NewRelation = { readonly from: string; readonly type: string; readonly to: string; readonly source?: string | undefined; readonly remove?: boolean | undefined };

/** Relates two entities, or with `remove` takes that back. Saying it twice is fine. */
export async function relateEntities(committer: Committer, relation: NewRelation, actor: string): Promise<Relation> {
  const key = [entityKey(relation.from), attributeKey(relation.type), entityKey(relation.to)];
  const [before] = (await committer.store.get("relation", [key])) as unknown as (Relation | null)[];
  const result = await committer.commit(relate(before ?? null, { ...relation, source: relation.source ?? actor }, relation.remove === true, { actor, now: committer.store.clock.now() }));
  if (!result.ok) throw "error" in result ? result.error : new PawlError("conflict", "The relation was changed by another writer.", { next: "Try again." });
  return (await committer.store.get("relation", [key]))[0] as unknown as Relation;
}

/** The relations of an entity, from it and to it. */
export async function relationsOf(committer: Committer, entity: string, limit = 100): Promise<Relation[]> {
  const key = entityKey(entity);
  const [from, to] = await Promise.all([
    committer.store.list("relation", { index: "from", equals: { from_key: key }, limit }),
    committer.store.list("relation", { index: "to", equals: { to_key: key }, limit }),
  ]);
  return [...from, ...to].slice(0, limit) as unknown as Relation[];
}

/** What is remembered in a state, for programs. */
export function memoryVerbs(home: { readonly committer: Committer; readonly actor: string }) {
  return {
    /** Remembers a value; supersedes what the same source said before. Source: the actor of this state unless given. */
    store: (memory: NewMemory): Promise<Stored> => storeMemory(home.committer, memory, home.actor),
    /** What is remembered now, newest first. */
    recall: (options: RecallOptions = {}): Promise<Recalled[]> => recall(home.committer, options),
    /** Full-text search, best first. */
    search: (query: string, options: SearchOptions = {}): Promise<FoundMemory[]> => searchMemories(home.committer, query, options),
    get: (id: string): Promise<Recalled> => recalledOf(home.committer, id),
    verify: (id: string, options: { confidence?: number | undefined } = {}): Promise<Recalled> => verifyMemory(home.committer, id, { ...options, actor: home.actor }),
    forget: (target: ForgetTarget, options: Forgetting = {}): Promise<Memory[]> => forgetMemories(home.committer, target, { ...options, actor: home.actor }),
    relate: (relation: NewRelation): Promise<Relation> => relateEntities(home.committer, relation, home.actor),
    relations: (entity: string): Promise<Relation[]> => relationsOf(home.committer, entity),
    /** Where sources disagree. */
    conflicts: (options: { entity?: string | undefined; limit?: number | undefined } = {}): Promise<MemoryConflict[]> => memoryConflicts(home.committer, options),
    list: (filter: MemoryFilter = {}): Promise<Recalled[]> => listMemories(home.committer, filter),
  };
}
