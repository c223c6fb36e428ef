// Pawl under the recorder: a piece of work done by the real command line, and what must hold in every crash state of it.
// Invariant: a crash state opens, and it shows everything that was acknowledged before the cut, no history but the one that
// happened (each task's is a beginning of it), and takes new work.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { seededRandom } from "../../src/base/id.ts";
import { messageOf } from "../../src/base/errors.ts";
import { openState, type State } from "../../src/state.ts";
import { explore, type Found, type Image } from "./images.ts";
import { contentOf, newRecorder, restore, type Event } from "./record.ts";
import { BIN } from "../pawl.ts";

/** What happened, in which state file, how it ended: each task's chain of hashes, and the real folder. */
export type Recorded = { readonly events: readonly Event[]; readonly file: string; readonly history: ReadonlyMap<number, readonly string[]>; readonly real: Image };

/** The worker's script: two steps, each said aloud once `pawl step` came back with it. */
const WORK = `set -e
one=$("$NODE" "$BIN" step fetch -- printf 'fetched %s' "$PAWL_TASK_ID")
echo "step $PAWL_TASK_ID fetch $one" >> "$REC_ACK"
two=$("$NODE" "$BIN" step build --once -- printf 'built %s' "$PAWL_TASK_ID")
echo "step $PAWL_TASK_ID build $two" >> "$REC_ACK"
printf 'result of %s' "$PAWL_TASK_ID"
`;

/** A folder in memory where there is one: what is under test is not this machine's disk. */
export function scratch(): string {
  try {
    return mkdtempSync("/dev/shm/pawl-crash-");
  } catch {
    return mkdtempSync(join(tmpdir(), "pawl-crash-"));
  }
}

/** Works with the state `file` ("state.json", "state.db") in `<base>/root`, recorded. */
export async function recordPawl(base: string, file: string): Promise<Recorded> {
  const recorder = newRecorder(base);
  const list = join(base, "list.txt");
  const script = join(base, "work.sh");
  writeFileSync(list, "list one\nlist two\nlist three\n");
  writeFileSync(script, WORK);
  const state = join(recorder.root, file);
  const pawl = async (...args: string[]) => {
    const ended = await recorder.run(process.execPath, [BIN, ...args], { PAWL_STATE: state, PAWL_ACTOR: "tester", NODE: process.execPath, BIN });
    if (ended.code !== 0) throw new Error(`pawl ${args.join(" ")} ended with ${ended.code}: ${ended.stderr}`);
    return ended.stdout;
  };
  await pawl("add", "the first task", "--key", "first", "--json");
  await pawl("add", "the second task", "--depends-on", "1", "--tags", "a,b", "--json");
  const claim = JSON.parse(await pawl("claim", "--json")) as { data: { token: string } };
  await pawl("complete", "1", "--result", "done by hand", "--token", claim.data.token, "--json");
  await pawl("run", list, "--exec", `sh ${script}`);
  await pawl("add", "a task with much to say", "--input", JSON.stringify("x".repeat(20_000)), "--json");
  await pawl("fail", "6", "--reason", "it cannot be done");
  await pawl("retry", "6");
  await Promise.all([pawl("run", "--exec", `sh ${script}`), pawl("add", "while the others work", "--json"), pawl("add", "and another", "--json")]);
  await pawl("run", "--exec", `sh ${script}`);
  await pawl("cancel", String(JSON.parse(await pawl("add", "not wanted", "--json")).data.id));
  const real = contentOf(recorder.root);
  const final = await openState(state, { readOnly: true, notice: () => undefined });
  try {
    return { events: recorder.events(), file, history: await historyOf(final), real };
  } finally {
    await final.close();
  }
}

async function historyOf(state: State): Promise<Map<number, readonly string[]>> {
  const tasks = await state.tasks.all();
  return new Map(await Promise.all(tasks.map(async ({ id }) => [id, (await state.history.of(id)).map(({ hash }) => hash)] as const)));
}

/** What was said aloud, as facts that must be found afterwards. */
export function factsOf(acknowledged: readonly Event[]): string[] {
  const texts = new Map<number, string>();
  for (const event of acknowledged) if (event.op === "acknowledge") texts.set(event.pid, (texts.get(event.pid) ?? "") + event.text);
  return [...texts.values()].flatMap((text) => {
    if (text.startsWith("{")) return factsOfJson(text);
    const steps = [...text.matchAll(/^step \d+ \S+ .*\n/gm)].map(([line]) => line.trimEnd());
    const completed = [...text.matchAll(/\[Task (\d+)\][^[]*✓ Completed/g)].map((match) => `completed ${match[1]} "result of ${match[1]}"`);
    return [...steps, ...completed];
  });
}

function factsOfJson(text: string): string[] {
  let data: { id?: number; description?: string; status?: string; result?: unknown };
  try {
    data = (JSON.parse(text) as { data: typeof data }).data;
  } catch {
    return []; // A part of a document acknowledges nothing.
  }
  if (data.id === undefined) return [];
  return [`task ${data.id} ${data.description}`, ...(data.status === "completed" ? [`completed ${data.id} ${JSON.stringify(data.result)}`] : [])];
}

export type Opened = { readonly wrong: readonly string[]; readonly facts: ReadonlySet<string> };

/** Puts the image into `folder` and opens it with the code under test. */
async function reopen(folder: string, recorded: Recorded, image: Image): Promise<Opened> {
  restore(folder, image);
  const path = join(folder, recorded.file);
  const wrong: string[] = [];
  let facts: ReadonlySet<string> = new Set();
  try {
    const state = await openState(path, { actor: "after the crash", notice: () => undefined });
    try {
      facts = await factsIn(state);
      wrong.push(...(await rewritten(state, recorded)));
      await state.tasks.claim();
      const added = await state.tasks.add({ description: "after the crash" });
      if ((await state.tasks.get(added.id)).description !== "after the crash") wrong.push("what was added after the crash is not there");
    } finally {
      await state.close();
    }
    wrong.push(...(recorded.file.endsWith(".db") ? integrityOf(path) : falseEdits(path)));
  } catch (error) {
    wrong.push(`it does not open or go on: ${messageOf(error)}`);
  }
  return { wrong, facts };
}

/** What a state shows, in the words of acknowledgements. */
export async function factsIn(state: State): Promise<Set<string>> {
  const facts = new Set<string>();
  for (const task of await state.tasks.all()) {
    facts.add(`task ${task.id} ${task.description}`);
    if (task.status === "completed") facts.add(`completed ${task.id} ${JSON.stringify(task.result)}`);
    for (const step of await state.tasks.steps(task.id)) if (step.status === "completed") facts.add(`step ${task.id} ${step.name} ${String(step.output)}`);
  }
  return facts;
}

/** Each task's history must be a beginning of the one that happened. */
async function rewritten(state: State, recorded: Recorded): Promise<string[]> {
  const wrong: string[] = [];
  for (const [id, hashes] of await historyOf(state)) {
    const happened = recorded.history.get(id) ?? [];
    if (hashes.length === 0 || hashes.some((hash, i) => hash !== happened[i])) wrong.push(`the history of task ${id} is not what happened`);
  }
  return wrong;
}

/** Nobody edited anything: a view that Pawl takes for an edit is one that it did not know again. */
function falseEdits(path: string): string[] {
  return readdirSync(`${path}.pawl/quarantine`).filter((name) => !name.startsWith("torn-")).map((name) => `a view of Pawl's own was taken for an edit: ${name}`);
}

export function integrityOf(path: string): string[] {
  const db = new DatabaseSync(path);
  try {
    const { integrity_check: found } = db.prepare("pragma integrity_check").get() as { integrity_check: string };
    return found === "ok" ? [] : [`integrity_check: ${found}`];
  } finally {
    db.close();
  }
}

/** The same recording as it would be if the files and folders that `which` names were never flushed. */
export function withoutFlushes(recorded: Recorded, which: RegExp): Recorded {
  const names = new Map<string, string>();
  const events = recorded.events.filter((event) => {
    if (event.op === "create") names.set(event.ino, event.path);
    const name = event.op === "flush" ? names.get(event.ino)! : event.op === "flush names" ? event.path : null;
    return name === null || !which.test(name);
  });
  return { ...recorded, events };
}

export type ImageOptions = { readonly file: string; readonly wanted: number; readonly seed: number };
export type ImageReport = Omit<Found, "moments"> & { readonly calls: number; readonly acknowledgements: number; readonly seconds: number };

/** Records, then reopens `wanted` distinct crash states of the recording. */
export async function crashImages({ file, wanted, seed }: ImageOptions): Promise<ImageReport> {
  const base = scratch();
  const started = Date.now();
  try {
    const recorded = await recordPawl(base, file);
    const { moments, ...found } = await exploreRecorded(base, recorded, wanted, seed);
    return { ...found, calls: moments, acknowledgements: factsOf(recorded.events).length, seconds: (Date.now() - started) / 1000 };
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

export async function exploreRecorded(base: string, recorded: Recorded, wanted: number, seed: number, enough?: number): Promise<Found> {
  const folder = join(base, "image");
  // Of every image only these facts matter, and tens of thousands of images are remembered: one string for all of them.
  const known = new Map(factsOf(recorded.events).map((fact) => [fact, fact]));
  const promised: string[][] = [];
  const open = async (image: Image): Promise<Opened> => {
    const { wrong, facts } = await reopen(folder, recorded, image);
    return { wrong, facts: new Set([...facts].flatMap((fact) => known.get(fact) ?? [])) };
  };
  return explore(recorded.events, wanted, seededRandom(seed), open, ({ wrong, facts }, acknowledged) => {
    const missing = (promised[acknowledged.length] ??= factsOf(acknowledged)).filter((fact) => !facts.has(fact));
    return [...wrong, ...missing.map((fact) => `acknowledged and gone: ${fact}`)];
  }, enough);
}
