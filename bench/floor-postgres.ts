// The floor under the Postgres store: the rows of floor-sqlite.ts, written in batches over one connection, a statement for each
// kind of row and one transaction for a batch, with none of an engine's care. A measuring stick only.
// Called by postgres.ts: node floor-postgres.ts URL TASKS IN_FLIGHT (the URL names an empty schema)
import { hash } from "node:crypto";
import pg from "pg";
import { load, report, type Engine } from "./floor.ts";

type Row = { id: number; fence: number; revision: number; head: string };
type Step = { readonly id: number; readonly fence: number; readonly key: string; readonly output: string; readonly started: string; readonly ended: string };
type Entry = { readonly id: number; readonly seq: number; readonly at: string; readonly event: string; readonly from: string; readonly to: string; readonly hash: string };
type Batch = { readonly adds: string[]; readonly steps: Step[]; readonly ends: (Row & { readonly result: string; readonly at: string })[]; readonly entries: Entry[]; claim: number };

const url = new URL(process.argv[2]!);
const schema = url.searchParams.get("schema")!;
url.searchParams.delete("schema");
const client = new pg.Client({ connectionString: url.href, options: `-c search_path=${schema}` });
await client.connect();
await client.query(`create schema ${schema};
  create table task(id bigserial primary key, description text, input json, status text, priority int, attempts int, fence int, worker text, lease text, revision int,
    result json, head text, created_at text, updated_at text, started_at text, completed_at text);
  create index due on task(priority, id) where status = 'pending';
  create table step(task_id bigint, key text, status text, effect text, output json, attempt int, started_at text, ended_at text, primary key(task_id, key));
  create table transition(task_id bigint, seq int, at text, actor text, event text, before text, after text, hash text, primary key(task_id, seq));`);

const iso = () => new Date().toISOString();
const column = <T, K extends keyof T>(rows: readonly T[], name: K): T[K][] => rows.map((row) => row[name]);
const prepared = (name: string, text: string, values: unknown[]) => client.query({ name, text, values });

function entry(id: number, seq: number, event: string, from: string, to: string, head: string): Entry {
  const at = iso();
  return { id, seq, at, event, from, to, hash: hash("sha256", head + JSON.stringify([id, seq, at, event, from, to]), "hex") };
}

const empty = (): Batch => ({ adds: [], steps: [], ends: [], entries: [], claim: 0 });
let batch = empty();
let waiting: (() => void)[] = [];
let flushed = false;
let claimed: Row[] = [];

async function flush(): Promise<void> {
  const [now, callers] = [batch, waiting];
  [batch, waiting] = [empty(), []];
  const done: Promise<unknown>[] = [client.query("begin")];
  if (now.adds.length > 0) {
    done.push(prepared("add", "insert into task(description, input, status, priority, attempts, fence, revision, head, created_at, updated_at) select 'task ' || n, json_build_object('n', n), 'pending', 5, 0, 0, 1, '', $2, $2 from unnest($1::text[]) n", [now.adds, iso()]));
  }
  if (now.steps.length > 0) {
    done.push(prepared("step", "insert into step select s.id, s.key, 'completed', 'repeat', s.output::json, 1, s.started, s.ended from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[]) s(id, fence, key, output, started, ended) join task t on t.id = s.id and t.fence = s.fence",
      [column(now.steps, "id"), column(now.steps, "fence"), column(now.steps, "key"), column(now.steps, "output"), column(now.steps, "started"), column(now.steps, "ended")]));
  }
  if (now.ends.length > 0) {
    done.push(prepared("end", "update task t set status = 'completed', result = e.result::json, revision = t.revision + 1, head = e.head, worker = null, lease = null, completed_at = e.at, updated_at = e.at from unnest($1::bigint[], $2::int[], $3::int[], $4::text[], $5::text[], $6::text[]) e(id, fence, revision, result, head, at) where t.id = e.id and t.fence = e.fence and t.revision = e.revision",
      [column(now.ends, "id"), column(now.ends, "fence"), column(now.ends, "revision"), column(now.ends, "result"), column(now.ends, "head"), column(now.ends, "at")]));
  }
  if (now.claim > 0) {
    const { rows } = await prepared("claim", "update task set status = 'in_progress', attempts = attempts + 1, fence = fence + 1, worker = 'w', lease = $1, revision = revision + 1, started_at = $1, updated_at = $1 where id in (select id from task where status = 'pending' order by priority, id limit $2 for update skip locked) returning id::int, fence, revision, head", [iso(), now.claim]);
    claimed = (rows as Row[]).map((row) => {
      const first = entry(row.id, row.revision, "claimed", "pending", "in_progress", row.head);
      now.entries.push(first);
      return { ...row, head: first.hash };
    });
  }
  if (now.entries.length > 0) {
    done.push(prepared("entry", "insert into transition select id, seq, at, 'w', event, f, t, hash from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) e(id, seq, at, event, f, t, hash)",
      [column(now.entries, "id"), column(now.entries, "seq"), column(now.entries, "at"), column(now.entries, "event"), column(now.entries, "from"), column(now.entries, "to"), column(now.entries, "hash")]));
  }
  done.push(client.query("commit"));
  await Promise.all(done);
  for (const resolve of callers) resolve();
}

/** One batch at a time: what comes meanwhile is the next. */
function commit(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    if (flushed) return;
    flushed = true;
    setImmediate(async () => {
      while (waiting.length > 0) await flush();
      flushed = false;
    });
  });
}

const engine: Engine<Row> = {
  add: (n) => (batch.adds.push(String(n)), commit()),
  claim: async (n) => {
    batch.claim = n;
    await commit();
    return claimed.splice(0);
  },
  step: (task, key, output) => {
    const at = iso();
    batch.steps.push({ id: task.id, fence: task.fence, key, output: JSON.stringify(output), started: at, ended: iso() });
    return commit();
  },
  complete: (task, result) => {
    const last = entry(task.id, task.revision + 1, "completed", "in_progress", "completed", task.head);
    batch.entries.push(last);
    batch.ends.push({ ...task, head: last.hash, result: JSON.stringify(result), at: iso() });
    return commit();
  },
};
report(await load(engine, Number(process.argv[3]), Number(process.argv[4])));
const { rows } = await client.query("select (select count(*) from task where status = 'completed') as tasks, (select count(*) from step) as steps");
if (Number(rows[0].tasks) !== Number(process.argv[3]) || Number(rows[0].steps) !== 5 * Number(process.argv[3])) throw new Error(`the floor lost rows: ${JSON.stringify(rows[0])}`);
await client.end();
