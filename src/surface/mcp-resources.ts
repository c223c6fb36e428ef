// The state as resources a client can read: the queue, what is in progress, counts, tasks by status, artifacts. Invariant: what
// says how tasks stand is one JSON object under the size a model is shown, and names where it goes on.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { redact, redactText } from "../base/redact.ts";
import { STATUSES, TERMINAL, type Status, type Task } from "../core/records.ts";
import { operationOfName } from "../operations.ts";
import type { State } from "../state.ts";

export type Resource = { readonly uri: string; readonly name: string; readonly description: string; readonly mimeType: string };

const JSON_TYPE = "application/json";

export const RESOURCES: readonly Resource[] = [
  { uri: "task://queue", name: "queue", description: "All tasks; when they are too many, those that have not ended" },
  { uri: "task://current", name: "current", description: "Tasks in progress" },
  { uri: "task://stats", name: "stats", description: "How many tasks there are in each status" },
  { uri: "task://pending", name: "pending", description: "Pending tasks" },
  { uri: "task://completed", name: "completed", description: "Completed tasks with the beginning of their results" },
].map((resource) => ({ ...resource, mimeType: JSON_TYPE }));

export const TEMPLATES = [
  { uriTemplate: "artifact://{id}{?bytes,lines}", name: "artifact", description: "The content of an artifact, or a part: lines=1-20, bytes=0-999" },
  { uriTemplate: "task://filter/{status}", name: "filter", description: `Tasks with one status: ${STATUSES.join(", ")}`, mimeType: JSON_TYPE },
];

/** Those whose content may be other after a change. */
export const changing = (): readonly string[] => RESOURCES.map(({ uri }) => uri);

/** Characters of a description and of a result. */
const CHARS = 200;

export type Content = { readonly uri: string; readonly mimeType: string } & ({ readonly text: string } | { readonly blob: string });

/** The content of a resource. Throws `not_found` for another URI. */
export async function readResource(state: State, uri: string): Promise<Content> {
  return uri.startsWith("artifact://") ? artifactContent(state, uri) : { uri, mimeType: JSON_TYPE, text: JSON.stringify(await tasksAt(state, uri)) };
}

async function artifactContent(state: State, uri: string): Promise<Content> {
  const [id, query] = uri.slice("artifact://".length).split("?") as [string, string?];
  const range = Object.fromEntries([...new URLSearchParams(query ?? "")].filter(([name]) => name === "bytes" || name === "lines"));
  const read = operationOfName("artifact_get")!;
  const { content, encoding, type } = (await read.run(state, { ...range, id, max: LIMITS.modelChars })) as { content: string; encoding: string; type: string };
  const mimeType = /^[\w.+-]+\/[\w.+-]+$/.test(type) ? type : encoding === "utf-8" ? "text/plain" : "application/octet-stream";
  return encoding === "utf-8" ? { uri, mimeType, text: redactText(content) } : { uri, mimeType, blob: content };
}

async function tasksAt(state: State, uri: string): Promise<Json> {
  const [path, query] = uri.split("?") as [string, string?];
  const after = Number(new URLSearchParams(query ?? "").get("after") ?? 0);
  const status = /^task:\/\/filter\/([a-z_]+)$/.exec(path)?.[1] ?? { "task://current": "in_progress", "task://pending": "pending", "task://completed": "completed" }[path];
  if (path === "task://stats") return { ...(await state.status()).tasks };
  if (path === "task://queue") return queue(state, after);
  if (status !== undefined && (STATUSES as readonly string[]).includes(status)) return page(uri, await tasksOf(state, [status as Status], after), after);
  throw new PawlError("not_found", `There is no resource ${uri.slice(0, 200)}.`, { next: `There are: ${[...RESOURCES.map((resource) => resource.uri), ...TEMPLATES.map((template) => template.uriTemplate)].join(", ")}.` });
}

async function queue(state: State, after: number): Promise<Json> {
  const all = page("task://queue", await tasksOf(state, null, after), after);
  if (!("left_out" in all) || after > 0) return all;
  return page("task://queue", await tasksOf(state, STATUSES.filter((status) => !TERMINAL.has(status)), after), after);
}

/** The first tasks after an id, as many as can be shown at most. */
async function tasksOf(state: State, statuses: readonly Status[] | null, after: number): Promise<readonly Task[]> {
  const limit = Math.ceil(LIMITS.modelListBytes / 40);
  const pages = await Promise.all((statuses ?? [null]).map((status) => state.tasks.list({ limit, ...(status === null ? {} : { status }), ...(after > 0 ? { after } : {}) })));
  return pages.flat().sort((a, b) => a.id - b.id).slice(0, limit);
}

function page(uri: string, tasks: readonly Task[], after: number): { readonly [field: string]: Json } {
  const room = LIMITS.modelListBytes - 200;
  let used = 0;
  const shown: Json[] = [];
  for (const task of tasks) {
    const entry = redact(entryOf(task));
    if ((used += Buffer.byteLength(JSON.stringify(entry)) + 1) > room) break;
    shown.push(entry);
  }
  if (shown.length === tasks.length) return { tasks: shown };
  const last = tasks[shown.length - 1]?.id ?? after;
  return { tasks: shown, left_out: true, next: `${uri.split("?")[0]}?after=${last}` };
}

function entryOf({ id, description, status, attempts, result }: Task): { readonly [field: string]: Json } {
  const entry = { id, description: cut(description), status, attempts };
  return status !== "completed" || result === null ? entry : { ...entry, result: cut(typeof result === "string" ? result : JSON.stringify(result)) };
}

const cut = (text: string): string => (text.length <= CHARS ? text : `${text.slice(0, CHARS).toWellFormed()}…`);
