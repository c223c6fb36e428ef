// What is remembered: stored, recalled, searched, verified, related, forgotten. `scope` says whose memory: the project's, or
// the user's own, which is a state in their config folder.
import { PawlError } from "../base/errors.ts";
import type { ForgetTarget, memoryVerbs } from "../core/memories.ts";
import { openState, type State } from "../state.ts";
import { userStatePath } from "../state/user.ts";
import { operation, type Operation } from "./operation.ts";

const ID = { type: "text", summary: "id of the memory, such as m3", required: true, arg: true } as const;
const SCOPE = { type: "text", summary: "whose memory: the project's (default), or the user's own, in every project", choices: ["project", "user"] } as const;
const SOURCE = { type: "text", summary: 'whose word it is; "user" for a person (default: who acts)' } as const;
const SURE = {
  "min-confidence": { type: "number", summary: "leave out what is less sure by now (0 to 1)" },
  "half-life": { type: "number", summary: "days after which a memory is half as sure (default: 90)", min: 0.001 },
} as const;
const LIMIT = { type: "integer", summary: "at most so many", min: 1 } as const;

type Memory = ReturnType<typeof memoryVerbs>;
type Scoped = { readonly scope?: string };

/** The state that `scope` means, when it is not the one at hand. */
const elsewhere = (input: { readonly [name: string]: unknown }): string | null => (input["scope"] === "user" ? userStatePath() : null);

/** A reader and a writer of the memory that `scope` means. A door that looks at `elsewhere` has opened it already. */
const reading = <T>(state: State, input: Scoped, fn: (memory: Memory) => Promise<T>): Promise<T> => inScope(state, input, true, fn);
const writing = <T>(state: State, input: Scoped, fn: (memory: Memory) => Promise<T>): Promise<T> => inScope(state, input, false, fn);

async function inScope<T>(state: State, input: Scoped, readOnly: boolean, fn: (memory: Memory) => Promise<T>): Promise<T> {
  const path = elsewhere(input);
  if (path === null || path === state.location) return fn(state.memory);
  const own = await openState(path, { actor: state.actor, readOnly });
  try {
    return await fn(own.memory);
  } finally {
    await own.close();
  }
}

const sure = (input: { readonly "min-confidence"?: number; readonly "half-life"?: number }) => ({ minConfidence: input["min-confidence"], halfLifeDays: input["half-life"] });

export const memoryOperations: readonly Operation[] = [
  operation({
    name: "memory_store", command: "memory store", summary: "Remember a value of an entity; it supersedes what the same source said before", effect: "write", creates: true, output: "memory-stored", elsewhere,
    params: {
      entity: { type: "text", summary: "what it is about: user, a person, task:ID, …", required: true, arg: true },
      attribute: { type: "text", summary: "what of it", required: true, arg: true },
      value: { type: "json", summary: "the value, a text", arg: true, words: true, plain: true, stdin: true },
      "value-json": { type: "json", summary: "the value, as JSON" },
      source: SOURCE,
      confidence: { type: "number", summary: "how sure, 0 to 1 (default: 1)" },
      context: { type: "json", summary: "what helps to understand it", plain: true },
      supersede: { type: "boolean", summary: "it supersedes what other sources say, too" },
      "allow-secret": { type: "boolean", summary: "keep it although it looks like a key or a password" },
      scope: SCOPE,
    },
    run: (state, input) => writing(state, input, (memory) => memory.store({
      entity: input.entity, attribute: input.attribute, value: input.value ?? input["value-json"] ?? null, context: input.context ?? null, source: input.source, confidence: input.confidence,
      supersede: input.supersede, allowSecret: input["allow-secret"],
    })),
  }),
  operation({
    name: "memory_recall", command: "memory recall", summary: "What is remembered now, newest first", effect: "read", output: "memory-list", elsewhere,
    params: { entity: { type: "text", summary: "only of this entity", arg: true }, attribute: { type: "text", summary: "only of this attribute", arg: true }, limit: LIMIT, ...SURE, scope: SCOPE },
    run: (state, input) => reading(state, input, (memory) => memory.recall({ entity: input.entity, attribute: input.attribute, limit: input.limit, ...sure(input) })),
  }),
  operation({
    name: "memory_search", command: "memory search", summary: "Find memories by their words, best first", effect: "read", output: "memory-list", elsewhere,
    params: { query: { type: "text", summary: "words", required: true, arg: true, words: true }, limit: LIMIT, ...SURE, scope: SCOPE },
    run: (state, input) => reading(state, input, (memory) => memory.search(input.query, { limit: input.limit, ...sure(input) })),
  }),
  operation({
    name: "memory_list", command: "memory list", summary: "List memories, with --all also the superseded and forgotten ones", effect: "read", output: "memory-list", elsewhere,
    params: { entity: { type: "text", summary: "only of this entity" }, attribute: { type: "text", summary: "only of this attribute" }, all: { type: "boolean", summary: "also what was superseded or forgotten" }, limit: LIMIT, scope: SCOPE },
    run: (state, input) => reading(state, input, (memory) => memory.list({ entity: input.entity, attribute: input.attribute, all: input.all, limit: input.limit })),
  }),
  operation({
    name: "memory_verify", command: "memory verify", summary: "Say that a memory still holds: its confidence counts from now", effect: "write", output: "memory", elsewhere,
    params: { id: ID, confidence: { type: "number", summary: "how sure from now on, 0 to 1" }, scope: SCOPE },
    run: (state, input) => writing(state, input, (memory) => memory.verify(input.id, { confidence: input.confidence })),
  }),
  operation({
    name: "memory_forget", command: "memory forget", summary: "Take memories out of recall and search; with --erase their content, too", effect: "destructive", output: "memory-forgotten", elsewhere,
    params: {
      id: { type: "text", summary: "id of the memory; or name an entity", arg: true }, entity: { type: "text", summary: "all of this entity" },
      attribute: { type: "text", summary: "only of this attribute of it" }, erase: { type: "boolean", summary: "take out value and context, also of superseded ones" },
      reason: { type: "text", summary: "why; kept" }, scope: SCOPE,
    },
    run: (state, input) => writing(state, input, (memory) => memory.forget(targetOf(input), { erase: input.erase, reason: input.reason })),
  }),
  operation({
    name: "memory_conflicts", command: "memory conflicts", summary: "Where two sources say different things, and neither supersedes the other", effect: "read", output: "memory-conflicts", elsewhere,
    params: { entity: { type: "text", summary: "only of this entity", arg: true }, limit: LIMIT, scope: SCOPE },
    run: (state, input) => reading(state, input, (memory) => memory.conflicts({ entity: input.entity, limit: input.limit })),
  }),
  operation({
    name: "memory_relate", command: "memory relate", summary: "Relate one entity to another; same_as makes two names one entity", effect: "write", output: "relation", elsewhere,
    params: {
      from: { type: "text", summary: "an entity", required: true, arg: true }, type: { type: "text", summary: "how, such as works_at or same_as", required: true, arg: true },
      to: { type: "text", summary: "another entity", required: true, arg: true }, source: SOURCE, remove: { type: "boolean", summary: "take the relation back" }, scope: SCOPE,
    },
    run: (state, input) => writing(state, input, (memory) => memory.relate({ from: input.from, type: input.type, to: input.to, source: input.source, remove: input.remove })),
  }),
  operation({
    name: "memory_relations", command: "memory relations", summary: "How an entity is related to others", effect: "read", output: "relation-list", elsewhere,
    params: { entity: { type: "text", summary: "the entity", required: true, arg: true }, scope: SCOPE },
    run: (state, input) => reading(state, input, (memory) => memory.relations(input.entity)),
  }),
];

function targetOf({ id, entity, attribute }: { readonly id?: string; readonly entity?: string; readonly attribute?: string }): ForgetTarget {
  if (id !== undefined && entity === undefined && attribute === undefined) return { id };
  if (id === undefined && entity !== undefined) return { entity, attribute };
  throw new PawlError("usage", "memory forget needs the id of a memory, or --entity (and --attribute).", { next: "pawl memory forget m3, or: pawl memory forget --entity NAME" });
}
