// The verbs of artifacts: put a content once however often it comes, read parts of it, collect what nothing names.
// Invariants: a change that refers to an artifact makes sure of it in the same commit; collecting never takes what was put or
// referred to since it looked.
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Guard, Kind, Put, Rec, Result } from "../store/store.ts";
import {
  checkRange, checkWhole, chunkBytes, chunkPut, cutContent, cutLines, namedIn, readable, usePut, wholePuts, withPuts,
  type Artifact, type ArtifactFields, type ArtifactRange, type Chunk, type Content, type CutContent,
} from "./artifact.ts";
import { TRIES, type Committer } from "./committer.ts";
import type { Step } from "./records.ts";

/** Chunks written by one change, as bytes: what is larger is written piece by piece before the change that completes it. */
const PIECE_BYTES = 8 << 20;
/** Records looked at in one go. */
const PAGE = 500;

/** What was put, or is there already. Throws `value_refused` when it is too large. */
export async function putArtifact(committer: Committer, content: Content, fields: ArtifactFields, actor: string): Promise<Artifact> {
  const cut = cutContent(content, fields, { actor, now: committer.store.clock.now() });
  if (cut.artifact.bytes <= PIECE_BYTES) {
    const result = await commitWith(committer, { puts: [] }, [cut]);
    if (!result.ok) throw "error" in result ? result.error : new PawlError("conflict", `Artifact ${cut.artifact.id} changes under this command.`);
  } else await putLarge(committer, cut);
  return getArtifact(committer, cut.artifact.id);
}

async function putLarge(committer: Committer, cut: CutContent): Promise<void> {
  const { artifact, chunks } = cut;
  for (let i = 0; i < TRIES; i++) {
    const known = await find(committer, artifact.id);
    if (known?.complete) {
      const used = await committer.commit({ puts: [usePut(artifact.id, committer.store.clock.now())] });
      if (used.ok) return;
      if ("error" in used) throw used.error;
      continue; // collected in between
    }
    // Its record first, so that what a crash leaves is found and collected.
    if (!(await begin(committer, artifact))) continue;
    for (const puts of pieces(chunks)) await must(committer, { puts });
    const guards = chunks.map(({ artifact_id, seq, hash }): Guard => ({ kind: "chunk", key: [artifact_id, seq], is: { hash } }));
    const result = await committer.commit({ guards, puts: [{ kind: "artifact", key: artifact.id, set: { complete: true } }] });
    if (result.ok) return;
    if ("error" in result) throw result.error;
  }
  throw new PawlError("conflict", `Artifact ${artifact.id} is being collected as fast as it is put.`, { next: "Try again." });
}

/** False when somebody else completed it, or it was collected, meanwhile. One that was begun before is gone on with. */
async function begin(committer: Committer, artifact: Artifact): Promise<boolean> {
  const record = { ...artifact, complete: false };
  const begun = await committer.commit({ guards: [{ kind: "artifact", key: artifact.id, absent: true }], puts: [{ kind: "artifact", record }] });
  if (begun.ok) return true;
  if ("error" in begun) throw begun.error;
  if (begun.conflict.record!["complete"] === true) return false;
  const used = await committer.commit({ puts: [usePut(artifact.id, committer.store.clock.now())] });
  if (!used.ok && "error" in used) throw used.error;
  return used.ok;
}

function* pieces(chunks: readonly Chunk[]): Iterable<Put[]> {
  let puts: Put[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    puts.push(chunkPut(chunk));
    bytes += chunk.bytes;
    if (bytes < PIECE_BYTES) continue;
    yield puts;
    puts = [];
    bytes = 0;
  }
  if (puts.length > 0) yield puts;
}

async function must(committer: Committer, change: Change): Promise<void> {
  const result = await committer.commit(change);
  if (!result.ok) throw "error" in result ? result.error : new PawlError("conflict", "An artifact was changed by another writer.", { next: "Try again." });
}

/**
 * Commits a change together with the contents it refers to: all or nothing, one flush. The result is that of the change; the
 * writes of the contents come behind its own. Contents of more than a few MiB in all are put with `putArtifact` before.
 */
export async function commitWith(committer: Committer, change: Change, contents: readonly CutContent[]): Promise<Result> {
  let known = new Set<string>();
  const ids = contents.map(({ artifact }) => artifact.id);
  for (const found of await committer.store.get("artifact", ids)) if (found?.["complete"] === true) known.add(found["id"] as string);
  for (let i = 0; ; i++) {
    const now = committer.store.clock.now();
    const result = await committer.commit(withPuts(change, contents.flatMap((cut) => (known.has(cut.artifact.id) ? [usePut(cut.artifact.id, now)] : wholePuts(cut)))));
    const collected = !result.ok && "conflict" in result && result.conflict.on === "put" && result.conflict.kind === "artifact";
    if (!collected || i > 0) return result;
    // Collected since it was looked for: all of it is written anew.
    known = new Set();
  }
}

/** What a change needs that only names artifacts which are there: a conflict when one was collected. */
export const usePuts = (committer: Committer, ids: readonly string[]): Put[] => [...new Set(ids)].map((id) => usePut(id, committer.store.clock.now()));

/** The artifact with this id, or the only one whose id begins so. Throws `not_found`, `usage`. */
export async function getArtifact(committer: Committer, ref: string): Promise<Artifact> {
  const exact = await find(committer, ref);
  if (exact) return exact;
  const id = /^[0-9a-f]+$/.test(ref) ? `sha256-${ref}` : ref;
  const begins = /^sha256-[0-9a-f]{4,}$/.test(id) ? ((await committer.store.list("artifact", { from: id, to: `${id}~`, limit: 2 })) as unknown as Artifact[]) : [];
  if (begins.length === 1) return begins[0]!;
  if (begins.length > 1) throw new PawlError("usage", `Several artifacts begin with ${ref}.`, { next: "Give more of the id: pawl artifact list." });
  throw new PawlError("not_found", `artifact not found: ${ref}`, { next: "See what there is: pawl artifact list.", details: { id: ref } });
}

async function find(committer: Committer, id: string): Promise<Artifact | null> {
  return ((await committer.store.get("artifact", [id]))[0] ?? null) as Artifact | null;
}

/** Artifacts, newest first. */
export async function listArtifacts(committer: Committer, options: { readonly limit?: number } = {}): Promise<Artifact[]> {
  return (await committer.store.list("artifact", { index: "created", reverse: true, limit: options.limit ?? 100 })) as unknown as Artifact[];
}

/** A part of an artifact: bytes `from` to before `to`. `text` is null for what is not UTF-8. */
export type ArtifactPart = { readonly artifact: Artifact; readonly from: number; readonly to: number; readonly bytes: Buffer; readonly text: string | null; readonly truncated: boolean };

export type ReadOptions = { readonly range?: ArtifactRange | undefined; /** At most so many bytes; `truncated` says when there were more. */ readonly maxBytes?: number | undefined };

/** Reads an artifact, or a part of it, and only the chunks it needs. Throws `not_found`, `usage`, `corrupt`. */
export async function readArtifact(committer: Committer, ref: string, options: ReadOptions = {}): Promise<ArtifactPart> {
  const artifact = await getArtifact(committer, ref);
  if (!artifact.complete) throw new PawlError("not_found", `The artifact ${artifact.id} was never put whole.`, { next: "Put it again." });
  const { range, maxBytes = Infinity } = options;
  if (range) checkRange(range);
  if (range && "lines" in range) {
    if (artifact.lines === null) throw new PawlError("usage", `The artifact ${artifact.id} is not text and has no lines.`, { next: "Read its bytes." });
    return cutPart(artifact, await linesOf(committer, artifact, range.lines, maxBytes), maxBytes);
  }
  const from = Math.min(range?.bytes.from ?? 0, artifact.bytes);
  const to = Math.min(range?.bytes.to ?? artifact.bytes, artifact.bytes);
  const bytes = await bytesOf(committer, artifact, from, Math.min(to, from + maxBytes));
  if (!range && bytes.length === artifact.bytes) checkWhole(artifact, bytes);
  return cutPart(artifact, { start: from, bytes, more: from + bytes.length < to }, maxBytes);
}

type Found = { readonly start: number; readonly bytes: Buffer; readonly more: boolean };

function cutPart(artifact: Artifact, { start, bytes: found, more }: Found, maxBytes: number): ArtifactPart {
  const bytes = found.length > maxBytes ? found.subarray(0, maxBytes) : found;
  return { artifact, from: start, to: start + bytes.length, bytes, text: artifact.encoding === "utf-8" ? readable(bytes) : null, truncated: more || bytes.length < found.length };
}

async function bytesOf(committer: Committer, artifact: Artifact, from: number, to: number): Promise<Buffer> {
  if (from >= to) return Buffer.alloc(0);
  // A text is cut between characters, so a chunk may begin up to three bytes early.
  const first = Math.max(0, Math.floor(from / LIMITS.artifactChunkBytes) - 1);
  const found: Buffer[] = [];
  let start: number | null = null;
  let end = 0;
  for (let seq = first; seq < artifact.chunks && (start === null || end < to); seq++) {
    const chunk = await chunkAt(committer, artifact, seq);
    if (chunk.at + chunk.bytes <= from) continue;
    start ??= chunk.at;
    found.push(chunkBytes(artifact, chunk));
    end = chunk.at + chunk.bytes;
  }
  return Buffer.concat(found).subarray(from - (start ?? 0), to - (start ?? 0));
}

async function linesOf(committer: Committer, artifact: Artifact, range: { readonly from: number; readonly to?: number }, maxBytes: number): Promise<Found> {
  const [before] = range.from === 1 ? [] : ((await committer.store.list("chunk", { index: "line", equals: { artifact_id: artifact.id }, to: range.from - 1, reverse: true, limit: 1 })) as unknown as Chunk[]);
  const first = before ?? (artifact.chunks > 0 ? await chunkAt(committer, artifact, 0) : null);
  if (!first || range.from > artifact.lines!) return { start: artifact.bytes, bytes: Buffer.alloc(0), more: false };
  const { to = Infinity } = range;
  const found = [chunkBytes(artifact, first)];
  let size = found[0]!.length;
  for (let seq = first.seq + 1; seq < artifact.chunks; seq++) {
    const chunk = await chunkAt(committer, artifact, seq);
    if (chunk.line >= to || size > maxBytes + 2 * LIMITS.artifactChunkBytes) break;
    found.push(chunkBytes(artifact, chunk));
    size += chunk.bytes;
  }
  const cut = cutLines(Buffer.concat(found), first.line, range);
  return { start: first.at + cut.start, bytes: cut.bytes, more: false };
}

async function chunkAt(committer: Committer, artifact: Artifact, seq: number): Promise<Chunk> {
  const [chunk] = (await committer.store.get("chunk", [[artifact.id, seq]])) as unknown as (Chunk | null)[];
  if (!chunk) chunkBytes(artifact, null);
  return chunk!;
}

/** What a step gave: its output, read from the artifact that holds it when there is one. */
export async function outputOf(committer: Committer, step: Pick<Step, "output" | "output_artifact">): Promise<Json> {
  if (!step.output_artifact) return step.output;
  return JSON.parse((await readArtifact(committer, step.output_artifact)).bytes.toString("utf8")) as Json;
}

/* ---------- collecting ---------- */

export type Collected = { readonly dry_run: boolean; readonly removed: readonly Pick<Artifact, "id" | "bytes" | "type" | "created_at">[]; readonly bytes: number; readonly kept: number };

/**
 * Removes what no record names and nobody put or referred to for `olderThanMs` (default `LIMITS.artifactKeepMs`). Reads every
 * record once. `dryRun` only says what it would remove. `kinds` are all kinds of records there are.
 */
export async function collectArtifacts(committer: Committer, kinds: readonly Kind[], options: { readonly dryRun?: boolean | undefined; readonly olderThanMs?: number | undefined } = {}): Promise<Collected> {
  const { dryRun = false, olderThanMs = LIMITS.artifactKeepMs } = options;
  const before = iso(committer.store.clock.now() - olderThanMs);
  const unused = new Map<string, Artifact>();
  let all = 0;
  for await (const record of recordsOf(committer, "artifact")) {
    const artifact = record as unknown as Artifact;
    all++;
    if (artifact.used_at < before) unused.set(artifact.id, artifact);
  }
  for (const { name } of kinds) {
    if (unused.size === 0) break;
    if (name === "artifact" || name === "chunk") continue;
    for await (const record of recordsOf(committer, name)) for (const id of namedIn(JSON.stringify(record))) unused.delete(id);
  }
  const removed: Artifact[] = [];
  for (const artifact of unused.values()) if (dryRun || (await collect(committer, artifact))) removed.push(artifact);
  return {
    dry_run: dryRun,
    removed: removed.map(({ id, bytes, type, created_at }) => ({ id, bytes, type, created_at })),
    bytes: removed.reduce((sum, { bytes }) => sum + bytes, 0),
    kept: all - removed.length,
  };
}

/** False when it was put or referred to since it was looked at. */
async function collect(committer: Committer, { id, used_at, chunks }: Artifact): Promise<boolean> {
  const guards: Guard[] = [{ kind: "artifact", key: id, is: { used_at, chunks } }];
  const content = Array.from({ length: chunks }, (_, seq): Put => ({ kind: "chunk", key: [id, seq], delete: true }));
  const result = await committer.commit({ guards, puts: [{ kind: "artifact", key: id, delete: true }, ...content] });
  if (!result.ok && "error" in result) throw result.error;
  return result.ok;
}

async function* recordsOf(committer: Committer, kind: string): AsyncIterable<Rec> {
  for (let after: Rec | undefined; ; ) {
    const page = await committer.store.list(kind, { limit: PAGE, ...(after ? { after } : {}) });
    yield* page;
    if (page.length < PAGE) return;
    after = page.at(-1);
  }
}

/** The artifacts of a state, for programs. */
export function artifactVerbs(home: { readonly committer: Committer; readonly actor: string }, kinds: readonly Kind[]) {
  return {
    /** Keeps a content and gives its record; the same content is kept once, as who put it first described it. */
    put: (content: Content, fields: ArtifactFields = {}): Promise<Artifact> => putArtifact(home.committer, content, fields, home.actor),
    /** By its id, or the beginning of it. Throws `not_found`. */
    get: (ref: string): Promise<Artifact> => getArtifact(home.committer, ref),
    /** Its content, or the bytes or lines of a range. */
    read: (ref: string, options: ReadOptions = {}): Promise<ArtifactPart> => readArtifact(home.committer, ref, options),
    /** Newest first. */
    list: (options: { limit?: number } = {}): Promise<Artifact[]> => listArtifacts(home.committer, options),
    /** Removes what nothing names any more. */
    gc: (options: { dryRun?: boolean | undefined; olderThanMs?: number | undefined } = {}): Promise<Collected> => collectArtifacts(home.committer, kinds, options),
  };
}
