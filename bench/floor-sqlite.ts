// The floor under the SQLite store: the least that must be written for a task of five memoized steps with a chained history,
// group-committed, with none of an engine's care (no retry, lease renewal, checks, conflicts). A measuring stick only.
import { hash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { groupCommit, run, type Engine } from "./floor.ts";

const db = new DatabaseSync(process.argv[2]!);
db.exec("pragma journal_mode=wal; pragma synchronous=full");
db.exec(`create table task(id integer primary key, description text, input text, status text, priority integer, attempts integer, fence integer, worker text,
  lease text, revision integer, result text, head text, created_at text, updated_at text, started_at text, completed_at text) strict;
  create index due on task(priority, id) where status = 'pending';
  create table step(task_id integer, key text, status text, effect text, output text, attempt integer, started_at text, ended_at text, primary key(task_id, key)) strict, without rowid;
  create table transition(task_id integer, seq integer, at text, actor text, event text, before text, after text, hash text, primary key(task_id, seq)) strict, without rowid;`);
const insert = db.prepare("insert into task(description, input, status, priority, attempts, fence, revision, head, created_at, updated_at) values(?, ?, 'pending', 5, 0, 0, 1, '', ?, ?) returning id");
const take = db.prepare("update task set status='in_progress', attempts=attempts+1, fence=fence+1, worker='w', lease=?, revision=revision+1, started_at=?, updated_at=? where id in (select id from task where status='pending' order by priority, id limit ?) returning id, fence, revision, head");
const owner = db.prepare("select fence from task where id=?");
const addStep = db.prepare("insert into step values(?, ?, 'completed', 'repeat', ?, 1, ?, ?)");
const finish = db.prepare("update task set status='completed', result=?, revision=revision+1, head=?, worker=null, lease=null, completed_at=?, updated_at=? where id=? and fence=? and revision=?");
const addTransition = db.prepare("insert into transition values(?, ?, ?, 'w', ?, ?, ?, ?)");

const iso = () => new Date().toISOString();
function chain(id: number, seq: number, event: string, before: string, after: string, head: string): string {
  const at = iso();
  const sum = hash("sha256", head + JSON.stringify([id, seq, at, event, before, after]), "hex");
  addTransition.run(id, seq, at, event, before, after, sum);
  return sum;
}

const commit = groupCommit((bodies) => {
  db.exec("begin immediate");
  const results = bodies.map((body) => body());
  db.exec("commit");
  return Promise.resolve(results);
});

type Row = { id: number; fence: number; revision: number; head: string };
const engine: Engine<Row> = {
  add: (n) => commit(() => insert.get(`task ${n}`, JSON.stringify({ n }), iso(), iso())),
  claim: (n) => commit(() => (take.all(iso(), iso(), iso(), n) as Row[]).map((row) => ({ ...row, head: chain(row.id, row.revision, "claimed", "pending", "in_progress", row.head) }))),
  step: (task, key, output) => {
    const started = iso();
    return commit(() => {
      if ((owner.get(task.id) as Row).fence !== task.fence) throw new Error("lost");
      addStep.run(task.id, key, JSON.stringify(output), started, iso());
    });
  },
  complete: (task, result) =>
    commit(() => {
      const head = chain(task.id, task.revision + 1, "completed", "in_progress", "completed", task.head);
      if (finish.run(JSON.stringify(result), head, iso(), iso(), task.id, task.fence, task.revision).changes !== 1) throw new Error("conflict");
    }),
};
await run(engine);
