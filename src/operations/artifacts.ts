// Large values: kept, read in parts, collected when nothing names them.
import { readFileSync, statSync } from "node:fs";
import { messageOf, PawlError } from "../base/errors.ts";
import { LIMITS } from "../base/limits.ts";
import type { ArtifactRange } from "../core/artifact.ts";
import type { ArtifactPart } from "../core/artifacts.ts";
import { operation, type Operation } from "./operation.ts";

const ID = { type: "text", summary: "id of the artifact, or how it begins", required: true, arg: true } as const;

export const artifactOperations: readonly Operation[] = [
  operation({
    name: "artifact_list", command: "artifact list", summary: "List artifacts, newest first", effect: "read", output: "artifact-list",
    params: { limit: { type: "integer", summary: "at most so many (default: 100)", min: 1 } },
    run: (state, input) => state.artifacts.list(input.limit === undefined ? {} : { limit: input.limit }),
  }),
  operation({ name: "artifact_show", command: "artifact show", summary: "Show what an artifact is", effect: "read", output: "artifact", params: { id: ID }, run: (state, input) => state.artifacts.get(input.id) }),
  operation({
    name: "artifact_get", command: "artifact get", summary: "Read an artifact, or a part of it", effect: "read", output: "artifact-content",
    params: {
      id: ID,
      bytes: { type: "text", summary: "only these bytes, such as 0-99; the first is 0" },
      lines: { type: "text", summary: "only these lines, such as 1-20 or 100-; the first is 1" },
      max: { type: "integer", summary: "at most so many bytes", min: 1 },
    },
    run: async (state, input) => shown(await state.artifacts.read(input.id, { range: rangeOf(input.bytes, input.lines), maxBytes: input.max })),
    raw: (data) => contentOf(data as ReturnType<typeof shown>),
  }),
  operation({
    name: "artifact_put", command: "artifact put", summary: "Keep a file or a text as an artifact (the same content once)", effect: "write", creates: true, output: "artifact",
    params: {
      file: { type: "text", summary: "the file; - for standard input", arg: true, path: true },
      content: { type: "text", summary: "a text, instead of a file" },
      type: { type: "text", summary: "what it is, such as text/plain or tool_result.logs" },
      summary: { type: "text", summary: "what is in it, in a sentence" },
    },
    run: (state, input) => {
      if ((input.file === undefined) === (input.content === undefined)) throw new PawlError("usage", "artifact put needs a file or --content, and not both.", { next: "pawl artifact put build.log" });
      return state.artifacts.put(input.content ?? readInput(input.file!), { type: input.type, summary: input.summary });
    },
  }),
  operation({
    name: "artifact_gc", command: "artifact gc", summary: "Remove artifacts that no record names any more", effect: "destructive", output: "artifact-gc",
    params: {
      "dry-run": { type: "boolean", summary: "only say what would go" },
      "older-than": { type: "duration", summary: "only what nobody put or named for so long (default: 1 day)", min: 0 },
    },
    run: (state, input) => state.artifacts.gc({ dryRun: input["dry-run"], olderThanMs: input["older-than"] }),
  }),
];

function rangeOf(bytes: string | undefined, lines: string | undefined): ArtifactRange | undefined {
  if (bytes !== undefined && lines !== undefined) throw new PawlError("usage", "Name bytes or lines, not both.");
  const text = bytes ?? lines;
  if (text === undefined) return undefined;
  const parts = /^(\d{1,15})-(\d{0,15})$/.exec(text);
  if (!parts) throw new PawlError("usage", `"${text}" is no range.`, { next: "Write it as FIRST-LAST, such as 1-20, or FIRST- for all that follow." });
  const [from, last] = [Number(parts[1]), parts[2] === "" ? undefined : Number(parts[2])];
  if (lines !== undefined) return { lines: { from, ...(last === undefined ? {} : { to: last }) } };
  // Both ends are meant, as in HTTP.
  return { bytes: { from, ...(last === undefined ? {} : { to: last + 1 }) } };
}

/** A part as JSON: a text as it is, anything else in base64. */
function shown({ artifact, from, to, bytes, text, truncated }: ArtifactPart) {
  return { artifact_id: artifact.id, type: artifact.type, bytes: artifact.bytes, from, to, truncated, encoding: text === null ? ("base64" as const) : ("utf-8" as const), content: text ?? bytes.toString("base64") };
}

const contentOf = ({ content, encoding }: ReturnType<typeof shown>): string | Uint8Array => (encoding === "utf-8" ? content : Buffer.from(content, "base64"));

function readInput(file: string): Uint8Array {
  try {
    if (file === "-") return readFileSync(0);
    const stat = statSync(file);
    if (!stat.isFile()) throw new PawlError("usage", `${file} is ${stat.isDirectory() ? "a folder" : "not a regular file"}, not something to keep.`, { next: "Name a file." });
    if (stat.size > LIMITS.artifactBytes) throw new PawlError("value_refused", `${file} has ${stat.size} bytes; an artifact may have ${LIMITS.artifactBytes}.`, { next: "Keep its path instead, or the part that matters." });
    return readFileSync(file);
  } catch (error) {
    if (error instanceof PawlError) throw error;
    throw new PawlError("usage", `${file} cannot be read: ${messageOf(error)}.`, { next: "Check the path and its permissions.", cause: error });
  }
}
