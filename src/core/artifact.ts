// An artifact is a large value kept out of records and out of a model's context: a tool's output, a file, a step's result.
// It is named by its content, so the same content is kept once, and cut into chunks, so a part can be read without the rest.
// Invariants: what is complete has all its chunks; content is never changed. Pure: whoever calls commits.

//   (none) ── put, small: one change ───────────────────────────▶ complete ── gc, when nothing names it ──▶ (none)
//   (none) ── put, large: incomplete, its chunks, then complete ─▶ complete
import { isUtf8 } from "node:buffer";
import { hash } from "node:crypto";
import { iso } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Change, Fields, Kind, Put } from "../store/store.ts";

export type Artifact = {
  /** `sha256-` and the first 32 hex digits of `sha256`. */
  readonly id: string;
  readonly sha256: string;
  readonly bytes: number;
  /** Lines of a text; null for what is not UTF-8. */
  readonly lines: number | null;
  /** How its chunks are kept: "utf-8", or "base64" for what is not UTF-8 or holds NUL. */
  readonly encoding: "utf-8" | "base64";
  /** What it is, such as `text/plain` or `tool_result.logs`. */
  readonly type: string;
  readonly summary: string | null;
  readonly chunks: number;
  /** False while a large one is still being put. */
  readonly complete: boolean;
  readonly created_by: string;
  readonly created_at: string;
  /** When it was last put or referred to: what is younger than `LIMITS.artifactKeepMs` is never collected. */
  readonly used_at: string;
};

/** A piece of an artifact's content. A text is cut between characters. */
export type Chunk = {
  readonly artifact_id: string;
  readonly seq: number;
  /** Where it begins: bytes, and line ends, before it. */
  readonly at: number;
  readonly line: number;
  readonly bytes: number;
  readonly hash: string;
  /** Null when its file is gone (JSON states keep it in one). */
  readonly data: string | null;
};

export const ARTIFACT_KIND: Kind = {
  name: "artifact",
  fields: {
    id: "text", sha256: "text", bytes: "integer", lines: "integer", encoding: "text", type: "text", summary: "text", chunks: "integer", complete: "boolean",
    created_by: "text", created_at: "text", used_at: "text",
  },
  key: ["id"],
  indexes: { created: { fields: ["created_at"] }, used: { fields: ["used_at"] } },
};

export const CHUNK_KIND: Kind = {
  name: "chunk",
  fields: { artifact_id: "text", seq: "integer", at: "integer", line: "integer", bytes: "integer", hash: "text", data: "text" },
  key: ["artifact_id", "seq"],
  indexes: { line: { fields: ["artifact_id", "line"] } },
  beside: { field: "data", folder: "artifacts" },
};

export type Content = string | Uint8Array;

/** What is said of an artifact when it is put. The first to put a content says it for good. */
export type ArtifactFields = { readonly type?: string | undefined; readonly summary?: string | null | undefined };

/** A content as the records that keep it. */
export type CutContent = { readonly artifact: Artifact; readonly chunks: readonly Chunk[] };

const sha = (bytes: Uint8Array): string => hash("sha256", bytes, "hex");

/** The id that a content has or would have. */
export const artifactId = (content: Content): string => idOf(sha(bytesOf(content)));

const idOf = (sha256: string): string => `sha256-${sha256.slice(0, 32)}`;

const bytesOf = (content: Content): Buffer => (typeof content === "string" ? Buffer.from(content, "utf8") : Buffer.from(content.buffer, content.byteOffset, content.byteLength));

/**
 * Cuts a content into records. Half of a surrogate pair in a text becomes U+FFFD, as in every UTF-8 file.
 * Throws `value_refused` when it is larger than `LIMITS.artifactBytes` or `type` is no name.
 */
export function cutContent(content: Content, fields: ArtifactFields, by: { readonly actor: string; readonly now: number }): CutContent {
  const bytes = bytesOf(content);
  if (bytes.length > LIMITS.artifactBytes) {
    throw new PawlError("value_refused", `An artifact of ${bytes.length} bytes is larger than ${LIMITS.artifactBytes}, the most one may hold.`, { next: "Keep it in a file, and put its path, or the part that matters." });
  }
  const text = isUtf8(bytes) && !bytes.includes(0);
  const type = fields.type ?? (text ? "text/plain" : "application/octet-stream");
  checkType(type);
  const sha256 = sha(bytes);
  const id = idOf(sha256);
  const chunks: Chunk[] = [];
  let line = 0;
  for (let at = 0; at < bytes.length; ) {
    const end = text ? boundary(bytes, at + LIMITS.artifactChunkBytes) : at + LIMITS.artifactChunkBytes;
    const piece = bytes.subarray(at, end);
    chunks.push({ artifact_id: id, seq: chunks.length, at, line, bytes: piece.length, hash: sha(piece).slice(0, 32), data: piece.toString(text ? "utf8" : "base64") });
    if (text) line += countLines(piece);
    at += piece.length;
  }
  const lines = text ? line + (bytes.length > 0 && bytes.at(-1) !== 10 ? 1 : 0) : null;
  const now = iso(by.now);
  const artifact: Artifact = {
    id, sha256, bytes: bytes.length, lines, encoding: text ? "utf-8" : "base64", type, summary: fields.summary ?? null, chunks: chunks.length, complete: true,
    created_by: by.actor, created_at: now, used_at: now,
  };
  return { artifact, chunks };
}

function checkType(type: string): void {
  if (type.trim() !== "" && type.length <= LIMITS.nameChars) return;
  throw new PawlError("value_refused", `An artifact's type must be 1 to ${LIMITS.nameChars} characters.`, { next: "Name one, such as text/plain or tool_result.logs." });
}

/** The largest place up to `at` between two characters. */
function boundary(bytes: Buffer, at: number): number {
  if (at >= bytes.length) return bytes.length;
  while ((bytes[at]! & 0xc0) === 0x80) at--;
  return at;
}

function countLines(bytes: Buffer): number {
  let n = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) n++;
  return n;
}

/* ---------- as part of a change ---------- */

/** Everything of a content, as writes. Putting what is there already changes nothing but who put it. */
export function wholePuts({ artifact, chunks }: CutContent): Put[] {
  return [{ kind: "artifact", record: artifact as unknown as Fields }, ...chunks.map(chunkPut)];
}

export const chunkPut = (chunk: Chunk): Put => ({ kind: "chunk", record: chunk as unknown as Fields });

/** Says that an artifact is referred to now. A conflict (on the put, with no record) when it was collected meanwhile. */
export const usePut = (id: string, now: number): Put => ({ kind: "artifact", key: id, set: { used_at: iso(now) } });

/** The change with these writes of artifacts behind its own, whose numbers (`$new`) stay what they are. */
export const withPuts = (change: Change, puts: readonly Put[]): Change => ({ ...change, puts: [...change.puts, ...puts] });

/** A step's output as an artifact when it is too large for its record, else null. */
export function largeOutput(output: Json, name: string, by: { readonly actor: string; readonly now: number }): CutContent | null {
  if (!isLarger(output, LIMITS.stepOutputBytes)) return null;
  return cutContent(JSON.stringify(output), { type: "application/json", summary: `the output of step ${name}`.slice(0, LIMITS.nameChars).toWellFormed() }, by);
}

/** True when the JSON text of a value has more than about so many characters. Looks no further than it must: every step's output passes here. */
export const isLarger = (value: Json, most: number): boolean => roomBehind(value, most) < 0;

/** What is left of `room` behind the text of a value; negative, however little was looked at, when there is none. */
function roomBehind(value: Json, room: number): number {
  if (typeof value === "string") return room - value.length - 2;
  if (value === null || typeof value !== "object") return room - 5;
  if (Array.isArray(value)) {
    room -= 2;
    for (let i = 0; i < value.length && room >= 0; i++) room = roomBehind(value[i] as Json, room - 1);
    return room;
  }
  for (const key in value) {
    if (room < 0) break;
    room = roomBehind((value as { readonly [key: string]: Json })[key]!, room - key.length - 4);
  }
  return room;
}

/* ---------- parts ---------- */

/** Bytes from `from` to before `to`, or lines from `from` to `to`, both counted, from 1. Without `to`: to the end. */
export type ArtifactRange = { readonly bytes: { readonly from: number; readonly to?: number } } | { readonly lines: { readonly from: number; readonly to?: number } };

export function checkRange(range: ArtifactRange): void {
  const [what, { from, to }, least] = "bytes" in range ? (["bytes", range.bytes, 0] as const) : (["lines", range.lines, 1] as const);
  const whole = (n: number | undefined) => n === undefined || (Number.isSafeInteger(n) && n >= least);
  if (whole(from) && whole(to) && (to === undefined || to >= from)) return;
  throw new PawlError("usage", `${what} from ${from} to ${to ?? "the end"} is no range.`, { next: what === "bytes" ? "Bytes count from 0." : "Lines count from 1." });
}

/** The bytes of a chunk as they were put. Throws `corrupt` when they are not there or not the same. */
export function chunkBytes(artifact: Artifact, chunk: Chunk | null): Buffer {
  if (chunk === null || chunk.data === null) throw damaged(artifact, "a part of its content is missing");
  const bytes = Buffer.from(chunk.data, artifact.encoding === "utf-8" ? "utf8" : "base64");
  if (bytes.length !== chunk.bytes || sha(bytes).slice(0, 32) !== chunk.hash) throw damaged(artifact, "its content is not what was put");
  return bytes;
}

/** Throws `corrupt` unless these are the whole bytes of the artifact. */
export function checkWhole(artifact: Artifact, bytes: Buffer): void {
  if (bytes.length !== artifact.bytes || sha(bytes) !== artifact.sha256) throw damaged(artifact, "its content does not have its hash");
}

function damaged({ id }: Artifact, why: string): PawlError {
  return new PawlError("corrupt", `The artifact ${id} is damaged: ${why}.`, { next: "Put the same content again, or restore the state from a backup: pawl doctor --deep says what else is damaged.", details: { id } });
}

/** Cuts lines `from` to `to` (counted from 1) out of bytes that begin after `before` line ends. `start` is where they begin. */
export function cutLines(bytes: Buffer, before: number, { from, to = Infinity }: { readonly from: number; readonly to?: number }): { readonly start: number; readonly bytes: Buffer } {
  const skip = (at: number, lines: number): number => {
    for (; lines > 0 && at < bytes.length; lines--) {
      const end = bytes.indexOf(10, at);
      at = end < 0 ? bytes.length : end + 1;
    }
    return at;
  };
  const start = skip(0, from - 1 - before);
  return { start, bytes: bytes.subarray(start, to === Infinity ? bytes.length : skip(start, to - from + 1)) };
}

/** The bytes as text, without a character that was cut at either end. */
export function readable(bytes: Buffer): string {
  let start = 0;
  while (start < Math.min(3, bytes.length) && (bytes[start]! & 0xc0) === 0x80) start++;
  let end = bytes.length;
  for (let back = 1; back <= Math.min(4, end - start); back++) {
    const byte = bytes[end - back]!;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    if (length > back) end -= back;
    break;
  }
  return bytes.toString("utf8", start, end);
}

/* ---------- references ---------- */

/** The ids of artifacts that a text names. */
export function namedIn(text: string): string[] {
  return text.match(/sha256-[0-9a-f]{32}/g) ?? [];
}
