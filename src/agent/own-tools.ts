// The tools every agent has: it patches its own state, asks a person, and reads artifacts in pieces. Invariant: none of them
// reaches outside the state, so none needs leave.
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { readArtifact, type ArtifactPart } from "../core/artifacts.ts";
import { PATCH_SHAPE, type Patch } from "../core/patch.ts";
import type { Committer } from "../core/committer.ts";
import type { Task } from "../core/records.ts";
import type { StepScope } from "../worker/context.ts";
import type { ArtifactMark } from "./render.ts";
import type { ReadyTool, ToolContext } from "./tool.ts";

/** A result as it goes into the conversation. */
export type Made = { readonly output: Json; readonly artifact?: ArtifactMark };

/** What they use of the session. */
export type Desk = { readonly task: Task; readonly committer: Committer; patch(patch: Patch, stepKey: string): Promise<number> };

/** A tool of ours is handed the session as well, and the name of its call. With `answer` it is no step but a wait. */
export type OwnTool = Omit<ReadyTool, "execute"> & {
  readonly own?: true;
  execute(input: unknown, context: ToolContext, desk: Desk, call: string): Promise<unknown>;
  readonly answer?: (input: unknown, desk: Desk, scope: StepScope) => Promise<Made>;
};

const MADE = Symbol("made");

export function isMade(value: unknown): value is Made {
  return typeof value === "object" && value !== null && MADE in value;
}

function made(output: Json, artifact?: ArtifactMark): Made {
  return { [MADE]: true, output, ...(artifact ? { artifact } : {}) } as Made;
}

type Own = Pick<OwnTool, "name" | "description"> & { readonly takes: Json; readonly execute?: OwnTool["execute"]; readonly answer?: OwnTool["answer"] };

/** Their input is checked by what they call: a patch knows best what is wrong with it. */
function own({ takes, execute, answer, ...named }: Own): OwnTool {
  return {
    ...named, own: true, schema: { json: takes, check: async (value) => ({ ok: true, value }) }, risk: "read_only", effect: "repeat", timeoutMs: LIMITS.toolMs, retry: null, check: null,
    needsApproval: async () => false, execute: execute ?? (async () => null), ...(answer ? { answer } : {}),
  };
}

const agentPatch = own({
  name: "agent_patch",
  description: "Keeps your state: facts you learned, your plan, open questions, risks. It outlives this conversation; write down what you will need.",
  takes: PATCH_SHAPE as unknown as Json,
  execute: async (input, _, desk, call) => ({ revision: await desk.patch(input as Patch, `${call}/patch`) }),
});

export const ASK_PERSON = "ask_person";

const askPerson = own({
  name: ASK_PERSON,
  description: "Asks the person you work for. Use it only for what you cannot find out: the answer may take hours.",
  takes: { type: "object", properties: { question: { type: "string", minLength: 1, description: "one question, with what is needed to answer it" } }, required: ["question"], additionalProperties: false },
  answer: async (input, { task }, scope) => {
    const { question } = input as { question?: unknown };
    if (typeof question !== "string" || question.trim() === "") return made({ type: "error-text", value: "question must be a text" });
    const decision = await scope.decide("ask", { kind: "question", question: question.slice(0, LIMITS.agentTextChars), details: { asked_by: `the model of task ${task.id}` } });
    const said = decision.answer ?? decision.reason;
    return made(decision.status === "answered" ? { type: "text", value: said ?? "" } : { type: "error-text", value: `Nobody answered (${decision.status}${said === null ? "" : `: ${said}`}).` });
  },
});

const artifactRead = own({
  name: "artifact_read",
  description: `Reads a part of an artifact, at most ${LIMITS.artifactReadBytes} bytes at a time: bytes from \`from\` to before \`to\`, or lines \`from_line\` to \`to_line\`.`,
  takes: {
    type: "object",
    properties: {
      artifact_id: { type: "string" }, from: { type: "integer", minimum: 0 }, to: { type: "integer", minimum: 0 }, from_line: { type: "integer", minimum: 1 }, to_line: { type: "integer", minimum: 1 },
    },
    required: ["artifact_id"],
    additionalProperties: false,
  },
  execute: async (input, _, { committer }) => {
    const { artifact_id, from, to, from_line, to_line } = input as { artifact_id?: string; from?: number; to?: number; from_line?: number; to_line?: number };
    const range = from_line === undefined && to_line === undefined ? { bytes: { from: from ?? 0, ...(to === undefined ? {} : { to }) } } : { lines: { from: from_line ?? 1, ...(to_line === undefined ? {} : { to: to_line }) } };
    return partOutput(await readArtifact(committer, String(artifact_id ?? ""), { range, maxBytes: LIMITS.artifactReadBytes }));
  },
});

function partOutput({ artifact, from, to, text, bytes, truncated }: ArtifactPart): Made {
  const content = text ?? `(not text; base64) ${bytes.toString("base64")}`;
  const value = content === "" ? "(nothing there)" : `${content}${truncated ? "\n(there is more: read on from here)" : ""}`;
  return made({ type: "text", value }, { artifact_id: artifact.id, bytes: artifact.bytes, from, to });
}

export const OWN_TOOLS: readonly OwnTool[] = [agentPatch, askPerson, artifactRead];
