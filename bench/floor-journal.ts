// The floor under the JSON store: a checksummed, hash-chained journal flushed in groups, records kept in memory, no view, no
// lock, no recovery. A measuring stick only.
import { hash } from "node:crypto";
import { fdatasyncSync, openSync, writeSync } from "node:fs";
import { crc32 } from "node:zlib";
import { groupCommit, run, type Engine } from "./floor.ts";

type Task = { id: number; description: string; input: object; status: string; attempts: number; fence: number; revision: number; head: string; at: string; result?: unknown };
const file = openSync(process.argv[2]!, "a");
const tasks = new Map<number, Task>();
const steps = new Map<string, object>();
const due: number[] = [];
let lines = 0;
let previous = "";
let text = "";

const iso = () => new Date().toISOString();
function write(op: object): void {
  const body = JSON.stringify({ n: ++lines, previous, op });
  previous = hash("sha256", body, "hex").slice(0, 16);
  text += `${crc32(body).toString(16).padStart(8, "0")} ${body}\n`;
}
function chained(task: Task, event: string, before: string): object {
  const transition = { task_id: task.id, seq: task.revision, at: iso(), event, before, after: task.status };
  task.head = hash("sha256", task.head + JSON.stringify(transition), "hex");
  return { ...transition, hash: task.head };
}

const commit = groupCommit((bodies) => {
  text = "";
  const results = bodies.map((body) => body());
  writeSync(file, text);
  fdatasyncSync(file);
  return Promise.resolve(results);
});

const engine: Engine<Task> = {
  add: (n) =>
    commit(() => {
      const task: Task = { id: n + 1, description: `task ${n}`, input: { n }, status: "pending", attempts: 0, fence: 0, revision: 1, head: "", at: iso() };
      tasks.set(task.id, task);
      due.push(task.id);
      write({ task });
    }),
  claim: (n) =>
    commit(() =>
      due.splice(0, n).map((id) => {
        const before = tasks.get(id)!;
        const task: Task = { ...before, status: "in_progress", attempts: before.attempts + 1, fence: before.fence + 1, revision: before.revision + 1 };
        const transition = chained(task, "claimed", "pending");
        tasks.set(id, task);
        write({ task, transition });
        return task;
      }),
    ),
  step: (task, key, output) => {
    const started = iso();
    return commit(() => {
      if (tasks.get(task.id)!.fence !== task.fence) throw new Error("lost");
      const step = { task_id: task.id, key, status: "completed", output, started_at: started, ended_at: iso() };
      steps.set(`${task.id}/${key}`, step);
      write({ step });
    });
  },
  complete: (task, result) =>
    commit(() => {
      const done: Task = { ...tasks.get(task.id)!, status: "completed", result, revision: task.revision + 1 };
      const transition = chained(done, "completed", "in_progress");
      tasks.set(done.id, done);
      write({ task: done, transition });
    }),
};
await run(engine);
