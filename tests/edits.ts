// Random hand edits of state.json beside a worker that is at work, and what became of each. Every edit carries a mark of its
// own; afterwards each mark is in the history of its task, or in a kept file with the refusal of that task. The same run
// serves the test (few edits) and `npm run edits` (many).
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../src/base/id.ts";
import type { Task } from "../src/core/records.ts";
import { openState, type State } from "../src/state.ts";

export type EditReport = { readonly edits: number; readonly merged: number; readonly refused: number; readonly kinds: { readonly [kind: string]: number }; readonly reasons: { readonly [reason: string]: number }; readonly violations: readonly string[]; readonly tasks: number; readonly seconds: number; readonly slowest_ms: number };

type Entry = { [field: string]: unknown };
type Document = { pawl?: { revision: number }; tasks: Entry[] };
/** What an edit was about: the task (null: a new one), and the mark by which it is found again. */
type Intent = { readonly kind: string; readonly mark: string; readonly task: number | null; readonly legal: boolean | null };

const CHILD = join(import.meta.dirname, "edits-worker.ts");
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export async function editBesideWorker(options: { readonly edits: number; readonly seed: number }): Promise<EditReport> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-edits-"));
  const file = join(folder, "state.json");
  const started = Date.now();
  const setup = await openState(file, { actor: "parent", notice: () => undefined });
  await setup.tasks.addAll(Array.from({ length: 30 }, (_, i) => ({ description: `task ${i}`, queue: i % 3 === 0 ? "later" : "default" })));
  await setup.close();
  const child = spawn(process.execPath, [CHILD, file], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout!.once("data", resolve));
  const reader = await openState(file, { readOnly: true, notice: () => undefined });
  const editor = new Editor(folder, file, options.seed);
  const seen = new Seen(reader);
  let slowest = 0;
  try {
    for (let i = 0; i < options.edits; i++) {
      const intent = await editor.edit(i);
      // Some edits follow at once, as from a script; others when the one before is known to be dealt with. What is wrong must
      // be seen before the same person mends it.
      if (editor.random.number() < 0.4 && intent.legal !== false) continue;
      const since = Date.now();
      while (!(await seen.has(intent)) && Date.now() - since < 20_000) await pause(5);
      slowest = Math.max(slowest, Date.now() - since);
      if (slowest >= 20_000) throw new Error(`Not dealt with in 20 s: ${JSON.stringify(intent)} in ${readFileSync(file, "utf8").slice(0, 20_000)}\n${JSON.stringify((await reader.edits.list(5)))}`);
      editor.unseen = [];
    }
    const end = Date.now() + 30_000;
    while (Date.now() < end && !(await allSeen(seen, editor.intents))) await pause(50);
    const tasks = await reader.tasks.all();
    const report = await judge(seen, editor.intents);
    return { ...report, violations: [...report.violations, ...(await addedTwice(reader, tasks))], tasks: tasks.length, seconds: (Date.now() - started) / 1000, slowest_ms: slowest };
  } finally {
    await reader.close();
    await ended(child);
    rmSync(folder, { recursive: true, force: true });
  }
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", () => resolve());
    child.kill("SIGTERM");
  });
}

async function allSeen(seen: Seen, intents: readonly Intent[]): Promise<boolean> {
  for (const intent of intents) if (!(await seen.has(intent))) return false;
  return true;
}

/* ---------- the person ---------- */

class Editor {
  readonly random: ReturnType<typeof seededRandom>;
  readonly intents: Intent[] = [];
  /** Those that may still be on their way. */
  unseen: Intent[] = [];
  readonly #folder: string;
  readonly #file: string;

  constructor(folder: string, file: string, seed: number) {
    this.#folder = folder;
    this.#file = file;
    this.random = seededRandom(seed);
  }

  /** Reads the file, changes one thing in it and saves it in one of the ways editors and scripts do. */
  async edit(i: number): Promise<Intent> {
    const document = await this.#read();
    const intent = this.#change(document, `mark-${i}-`);
    const text = this.random.number() < 0.5 ? `${JSON.stringify(document, null, 2)}\n` : JSON.stringify(document).replaceAll("},{", "},\r\n{");
    await this.#save(this.random.number() < 0.05 ? `\ufeff${text}` : text);
    this.intents.push(intent);
    this.unseen.push(intent);
    return intent;
  }

  /** Whole JSON: between two renames there may be no file, and one's own slow save is not over at once. */
  async #read(): Promise<Document> {
    for (;;) {
      try {
        return JSON.parse(readFileSync(this.#file, "utf8").replace("\ufeff", "")) as Document;
      } catch {
        await pause(2);
      }
    }
  }

  async #save(text: string): Promise<void> {
    const way = this.#pick(["rename", "rename", "in place", "slowly", "moved away first"]);
    if (way === "rename" || way === "moved away first") {
      const temp = join(this.#folder, `.edit-${this.random.hex(4)}`);
      writeFileSync(temp, text);
      if (way === "moved away first" && this.random.number() < 0.5) {
        try {
          renameSync(this.#file, join(this.#folder, "state.json~"));
        } catch {
          // A view was being put in place.
        }
      }
      return renameSync(temp, this.#file);
    }
    if (way === "in place") return writeFileSync(this.#file, text);
    const fd = openSync(this.#file, "w");
    const half = Math.floor(text.length / 2);
    writeSync(fd, text.slice(0, half));
    await pause(this.random.number() * 60);
    writeSync(fd, text.slice(half));
    closeSync(fd);
  }

  #change(document: Document, mark: string): Intent {
    const { tasks } = document;
    const shown = tasks.filter((task) => task["created_at"] !== undefined);
    if (shown.length === 0) throw new Error(`The view shows no task: ${JSON.stringify(document).slice(0, 2_000)}`);
    const entry = this.#pick(shown);
    const id = entry["id"] as number;
    // Without a header nothing says of which view a number is, so nobody chooses one then.
    const own = document.pawl ? "add with id" : "add";
    const kind = this.#pick(["field", "field", "status", "status", "add", own, "illegal", "illegal", "headless", "remove"]);
    const intent = (legal: boolean | null, task: number | null = id): Intent => ({ kind, mark, task, legal });
    if (kind === "remove") {
      if (tasks.length < 10 || this.#unsettled(entry)) return this.#field(entry, mark, intent);
      tasks.splice(tasks.indexOf(entry), 1);
      return { kind, mark: "cancelled", task: id, legal: null };
    }
    if (kind === "headless" && tasks.every((task) => task["id"] === undefined || task["created_at"] !== undefined)) delete document.pawl;
    if (kind === "field" || kind === "headless") return this.#field(entry, mark, intent);
    if (kind === "status") {
      const status = this.#pick(["pending", "completed", "failed", "cancelled", "done"]);
      Object.assign(entry, { status }, marked(entry, mark), status === "completed" ? { result: mark } : {});
      return intent(null);
    }
    if (kind === "illegal") {
      const wrong: Entry = this.#pick([{ status: "nonsense" }, { attempts: 99 }, { created_at: "2020-01-01T00:00:00.000Z" }, { depends_on: [id] }, { priority: "high" }, { depends_on: [999_999] }, { description: "" }, { fence: 7 }, { status: "review" }, { tags: "none" }]);
      const same = Object.entries(wrong).every(([field, value]) => JSON.stringify(entry[field]) === JSON.stringify(value));
      Object.assign(entry, wrong, marked(entry, mark));
      // Where the file has numbers of its own, a task of that number is another, and no circle.
      const ambiguous = wrong["depends_on"] !== undefined && tasks.some((task) => task["id"] !== undefined && task["created_at"] === undefined);
      return intent(same || ambiguous ? null : false);
    }
    const depends_on = this.random.number() < 0.3 ? [id] : [];
    const queue = this.random.number() < 0.3 ? "later" : "default";
    tasks.push({ ...(kind === "add with id" ? { id: this.#pick([id + 1_000_000, Math.max(...tasks.map((task) => Number(task["id"] ?? 0))) + 1]) } : {}), description: `added ${mark}`, queue, ...(depends_on.length ? { depends_on } : {}) });
    return intent(null, null);
  }

  #field(entry: Entry, mark: string, intent: (legal: boolean | null) => Intent): Intent {
    Object.assign(entry, this.#pick<Entry>([{ description: `said ${mark}` }, { priority: Math.floor(this.random.number() * 9) }, { tags: [mark] }, { input: { mark } }, { max_attempts: 4 }, {}]), marked(entry, mark));
    return intent(null);
  }

  /** What was said of the entry a moment ago must not be taken back by the same person. */
  #unsettled(entry: Entry): boolean {
    return this.unseen.some((intent) => intent.task === entry["id"]);
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.random.number() * list.length)]!;
  }
}

/** Marks add up, so that a second edit does not take back the first. */
const marked = (entry: Entry, mark: string): Entry => ({ mark: `${(entry["mark"] as string | undefined) ?? ""}${mark}`.slice(-200) });

/* ---------- what became of it ---------- */

/** Follows the state as another process writes it; each transition and each edit is looked at once. */
class Seen {
  readonly #state: State;
  readonly #merged = new Set<string>();
  readonly #refused = new Map<string, string>();
  #edits = 0;
  readonly #transitions = new Map<number, number>();
  readonly refusedTasks = new Set<number | null>();
  readonly #revisions = new Map<number, number>();

  constructor(state: State) {
    this.#state = state;
  }

  async has(intent: Intent): Promise<"merged" | "refused" | null> {
    await this.#look();
    const key = intent.mark === "cancelled" ? `${intent.task} cancelled` : intent.mark;
    // The mark of what was refused stays in the file until that is rebuilt, and may come in with the next edit of that entry.
    if (intent.legal === false && this.#refused.has(key)) return "refused";
    if (this.#merged.has(key)) return "merged";
    return this.#refused.has(key) ? "refused" : null;
  }

  reason(intent: Intent): string | undefined {
    return this.#refused.get(intent.mark === "cancelled" ? `${intent.task} cancelled` : intent.mark);
  }

  async #look(): Promise<void> {
    const { store } = this.#state.committer;
    for (const { id: task_id, revision } of await this.#state.tasks.all()) {
      if (this.#revisions.get(task_id) === revision) continue;
      this.#revisions.set(task_id, revision);
      const from = this.#transitions.get(task_id) ?? 0;
      const fresh = await store.list("transition", { equals: { task_id }, from: from + 1 });
      this.#transitions.set(task_id, from + fresh.length);
      for (const transition of fresh.filter((t) => t["actor"] === "editor")) {
        if (transition["event"] === "cancelled") this.#merged.add(`${task_id} cancelled`);
        for (const [mark] of JSON.stringify(transition).matchAll(/mark-\d+-/g)) this.#merged.add(mark);
      }
      if (from === 0 && fresh[0]?.["actor"] === "editor") for (const [mark] of ((await this.#state.tasks.find(task_id))?.description ?? "").matchAll(/mark-\d+-/g)) this.#merged.add(mark);
    }
    const all = await this.#state.edits.list(100);
    for (const edit of all.filter((edit) => edit.id !== "file" && Number(edit.id.slice(1)) > this.#edits).reverse()) {
      this.#edits = Number(edit.id.slice(1));
      if (edit.refusals.length === 0) continue;
      const kept = JSON.parse(readFileSync(edit.kept!, "utf8").replace("\ufeff", "")) as Document;
      for (const { at, task, reason } of edit.refusals) {
        this.refusedTasks.add(task);
        const index = /^tasks\[(\d+)\]$/.exec(at)?.[1];
        if (index === undefined) this.#refused.set(`${task} cancelled`, reason);
        else for (const [mark] of JSON.stringify(kept.tasks[Number(index)]).matchAll(/mark-\d+-/g)) this.#refused.set(mark, reason);
      }
    }
  }
}

/** What was added carries a mark of its own, so no two tasks can have come of one entry. */
async function addedTwice(state: State, tasks: readonly Task[]): Promise<string[]> {
  const ids = new Map<string, number[]>();
  for (const { id, description } of tasks) {
    // As it was born: an edit may have changed it since.
    const edits = (await state.history.of(id)).map(({ details }) => (details as { description?: { from: string } } | null)?.description?.from);
    const born = edits.find((from) => from !== undefined) ?? description;
    if (born.startsWith("added ")) ids.set(born, [...(ids.get(born) ?? []), id]);
  }
  return [...ids].filter(([, found]) => found.length > 1).map(([description, found]) => `added twice: ${description} as ${found.join(", ")}`);
}

async function judge(seen: Seen, intents: readonly Intent[]): Promise<Pick<EditReport, "edits" | "merged" | "refused" | "kinds" | "reasons" | "violations">> {
  const violations: string[] = [];
  const kinds: { [kind: string]: number } = {};
  const reasons: { [reason: string]: number } = {};
  let merged = 0;
  for (const intent of intents) {
    const end = await seen.has(intent);
    if (end === null) violations.push(`lost: ${JSON.stringify(intent)}`);
    if (end === "merged") merged++;
    // The same wrong value from the same view is refused once; said again, only what is new of the entry comes in.
    if (end === "merged" && intent.legal === false && !seen.refusedTasks.has(intent.task)) violations.push(`merged what is not legal: ${JSON.stringify(intent)}`);
    if (end === "refused" && !seen.reason(intent)) violations.push(`refused without a reason: ${JSON.stringify(intent)}`);
    const reason = end === "refused" ? seen.reason(intent)?.replaceAll(/\d+/g, "N").replaceAll(/"[^"]*"/g, "…").slice(0, 60) : undefined;
    if (reason) reasons[reason] = (reasons[reason] ?? 0) + 1;
    kinds[`${intent.kind} ${end}`] = (kinds[`${intent.kind} ${end}`] ?? 0) + 1;
  }
  return { edits: intents.length, merged, refused: intents.length - merged, kinds, reasons, violations };
}
