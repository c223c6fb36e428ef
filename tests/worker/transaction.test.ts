// What step.transaction promises: the user's SQL and the step are there together or not at all, through kill -9, a lost lease
// and a lost answer to the commit; a replay runs no SQL; elsewhere it is refused in plain words.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { isPawlError } from "../../src/base/errors.ts";
import type { Change, PostgresHandle, SqlHandle, SqliteHandle } from "../../src/store/store.ts";
import type { State } from "../../src/state.ts";
import { statePlace, type StatePlace } from "../places.ts";
import { eventually } from "../pawl.ts";
import { postgresUrl } from "../postgres.ts";
import { gate } from "../simulation.ts";
import { STORES } from "../stores.ts";
import { Proxy } from "../store/postgres-proxy.ts";
import { TABLES, transfer } from "./transaction-transfer.ts";

const DATABASES = ["sqlite", "postgres"] as const;
const NOTHING: Change = { puts: [] };

async function exec(state: State, ...texts: string[]): Promise<void> {
  const result = await state.committer.store.transact!((sql) => {
    if ("query" in sql) return texts.reduce((done, text) => done.then(() => sql.query(text)), Promise.resolve<unknown>(null)).then(() => NOTHING);
    texts.forEach((text) => sql.exec(text));
    return NOTHING;
  });
  assert.ok(result.ok);
}

/** One statement on either kind of handle; a promise on Postgres only. */
const run = (sql: SqlHandle, text: string): Promise<unknown> | null => ("query" in sql ? sql.query(text) : (sql.exec(text), null));

async function rowsOf(state: State, text: string): Promise<{ [column: string]: unknown }[]> {
  let rows: { [column: string]: unknown }[] = [];
  await state.committer.store.transact!((sql) => {
    const keep = (found: readonly { readonly [column: string]: unknown }[]) => ((rows = found.map((row) => ({ ...row }))), NOTHING);
    return "query" in sql ? sql.query(text).then((answer) => keep(answer.rows)) : keep(sql.all(text));
  });
  return rows;
}

/** A state with the user's tables in it. */
async function withTables(t: TestContext, name: (typeof DATABASES)[number]): Promise<{ at: StatePlace; state: State }> {
  const at = await statePlace(t, name);
  const state = await at.open();
  await exec(state, ...TABLES);
  return { at, state };
}

/** Rows and steps say the same: every step that is recorded has its row, every row its step, once. */
async function agree(state: State, tasks: number): Promise<void> {
  const rows = await rowsOf(state, "select task, step from my_ledger");
  const steps = (await Promise.all((await state.tasks.all()).map((task) => state.tasks.steps(task.id)))).flat().filter((step) => step.status === "completed");
  const named = (list: readonly (readonly [unknown, unknown])[]) => list.map(([task, step]) => `${task} ${step}`).sort();
  assert.deepEqual(named(rows.map(({ task, step }) => [task, step])), named(steps.map((step) => [step.task_id, step.name])));
  assert.equal((await rowsOf(state, "select n from my_total"))[0]!["n"], rows.length);
  assert.ok(rows.length <= tasks * 3);
}

for (const name of DATABASES) {
  test(`${name}: SQL and step are one; a replay gives the output and runs no SQL`, async (t) => {
    const { state } = await withTables(t, name);
    await state.tasks.addAll(Array.from({ length: 5 }, (_, i) => ({ description: `task ${i}` })));
    let fails = true;
    const worker = state.work({
      concurrency: 5,
      backoff: { baseMs: 1, jitter: false },
      execute: async (task, context) => {
        const totals = await transfer(task, context);
        if (fails && task.id === 3) throw ((fails = false), new Error("after all three"));
        return totals;
      },
    });
    await eventually(async () => (await state.tasks.count()).completed === 5, "all complete");
    await worker.stop();
    await agree(state, 5);
    const totals = (await state.tasks.all()).flatMap((task) => task.result as number[]).sort((a, b) => a - b);
    assert.deepEqual(totals, Array.from({ length: 15 }, (_, i) => i + 1), "each saw what it wrote, in an order all agree on");
    assert.equal((await state.tasks.get(3)).attempts, 2);
  });

  test(`${name}: what fn throws fails the step, keeps nothing, and is thrown again on a replay; catching it is possible`, async (t) => {
    const { state } = await withTables(t, name);
    const seen: string[] = [];
    await state.tasks.add({ description: "t", max_attempts: 1 });
    const worker = state.work({
      execute: async (_, { step }) => {
        await step.transaction("bad", (sql) => {
          const done = run(sql, "insert into my_ledger values (1, 'x')");
          const no = () => { throw new Error("not enough money"); };
          return done ? done.then(no) : no();
        }).catch((error: Error) => seen.push(error.message));
        await step.transaction("worse", (sql) => run(sql, "insert into nowhere values (1)")).catch((error: Error) => seen.push(error.message));
        return "done";
      },
    });
    await eventually(async () => (await state.tasks.get(1)).status === "completed", "it completes");
    await worker.stop();
    assert.equal(seen[0], "not enough money");
    assert.match(seen[1]!, /nowhere/);
    assert.deepEqual(await rowsOf(state, "select * from my_ledger"), []);
    assert.deepEqual((await state.tasks.steps(1)).map((step) => [step.name, step.status]), [["bad", "failed"], ["worse", "failed"]]);
  });

  test(`${name}: an owner that lost its task commits neither SQL nor step`, async (t) => {
    const { at, state } = await withTables(t, name);
    const other = await at.open();
    await state.tasks.add({ description: "t" });
    const outcomes: string[] = [];
    const worker = state.work({
      maxTasks: 1,
      execute: async (task, { step }) => {
        await other.tasks.release(task.id, { force: true });
        await other.breakers.open("queue:default"); // nobody takes it again
        await step.transaction("late", async (sql) => void (await run(sql, "insert into my_ledger values (1, 'late')"))).then(() => outcomes.push("kept"), (error: Error) => outcomes.push(isPawlError(error) ? error.code : error.message));
      },
    });
    await eventually(() => outcomes.length === 1, "it ends");
    await worker.stop();
    assert.deepEqual(outcomes, ["lease_lost"]);
    assert.deepEqual(await rowsOf(state, "select * from my_ledger"), []);
    assert.deepEqual(await state.tasks.steps(1), []);
  });

  test(`${name}: workers are killed at any moment, again and again: rows and steps agree exactly`, async (t) => {
    const rounds = Number(process.env["PAWL_TRANSACTION_KILLS"] ?? 2);
    const { at, state } = await withTables(t, name);
    const tasks = rounds * 15;
    await state.tasks.addAll(Array.from({ length: tasks }, (_, i) => ({ description: `task ${i}`, max_attempts: 50 })));
    const spawned = () => spawn(process.execPath, [join(import.meta.dirname, "transaction-child.ts"), at.url], { stdio: ["ignore", "pipe", "inherit"] });
    let child = spawned();
    t.after(() => child.kill("SIGKILL"));
    for (let i = 0; i < rounds; i++) {
      const exited = once(child, "exit");
      await once(child.stdout, "data");
      const before = (await rowsOf(state, "select n from my_total"))[0]!["n"] as number;
      await eventually(async () => ((await rowsOf(state, "select n from my_total"))[0]!["n"] as number) > before, "it works", 20_000);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 30));
      child.kill("SIGKILL");
      await exited;
      await agree(state, tasks);
      if (i < rounds - 1) child = spawned();
    }
    const worker = state.work({ concurrency: 4, execute: transfer, backoff: { baseMs: 1, jitter: false } });
    await eventually(async () => (await state.tasks.count()).completed === tasks, "all complete", 60_000);
    await worker.stop();
    await agree(state, tasks);
    assert.equal((await rowsOf(state, "select * from my_ledger")).length, tasks * 3);
  });
}

test("sqlite: an async function is refused for good, and nothing of it is kept, not even what comes after its await", async (t) => {
  const { state } = await withTables(t, "sqlite");
  let later: unknown = null;
  await state.tasks.add({ description: "t", max_attempts: 3 });
  const worker = state.work({
    execute: async (_, { step }) =>
      step.transaction("async", async (db: SqliteHandle) => {
        db.exec("insert into my_ledger values (1, 'before')");
        await new Promise((resolve) => setImmediate(resolve));
        try {
          db.exec("insert into my_ledger values (1, 'after')");
        } catch (error) {
          later = error;
        }
      }),
  });
  await eventually(async () => (await state.tasks.get(1)).status === "failed" && later !== null, "it fails");
  await worker.stop();
  const task = await state.tasks.get(1);
  assert.match(task.error!.message, /must be a plain function/);
  assert.equal(task.attempts, 1, "trying again cannot help");
  assert.ok(isPawlError(later, "closed"));
  assert.deepEqual(await rowsOf(state, "select * from my_ledger"), []);
});

test("sqlite: Pawl's own tables may be read, not written", async (t) => {
  const { DatabaseSync } = await import("node:sqlite");
  if (!("setAuthorizer" in DatabaseSync.prototype)) return t.skip("this Node has no authorizer for SQLite");
  const { state } = await withTables(t, "sqlite");
  await state.tasks.add({ description: "t" });
  assert.deepEqual(await rowsOf(state, "select count(*) as n from task"), [{ n: 1 }]);
  for (const text of ["update task set status = 'completed'", "delete from step", "drop table task", "insert into pawl values ('seal', '{}')", "alter table task add column x", "create trigger mine after insert on task begin select 1; end", "attach ':memory:' as other", "with x as (select 1) insert into transition select 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1"]) {
    await assert.rejects(exec(state, text), /not authorized|takes no/, text);
  }
  assert.equal((await state.tasks.get(1)).status, "pending");
});

test("postgres: the answer to the commit is lost, or the commit never got there: the SQL is applied once", async (t) => {
  const { at, state } = await withTables(t, "postgres");
  const proxy = await Proxy.start(Number(new URL(await postgresUrl()).port));
  t.after(() => proxy.stop());
  const through = new URL(at.url);
  through.port = String(proxy.port);
  const { openState } = await import("../../src/state.ts");
  const far = await openState(through.href, { actor: "far", notice: () => undefined });
  t.after(() => far.close());
  let runs = 0;
  for (const fault of ["answer", "request", "answer"] as const) {
    const task = await state.tasks.add({ description: fault });
    const result = await far.tasks.executeOnce(task.id, (_, { step }) =>
      step.transaction("pay", async (client: PostgresHandle) => {
        runs++;
        proxy.fault = proxy.faults < task.id ? fault : "none";
        await client.query("insert into my_ledger values ($1, 'pay')", [task.id]);
        return (await client.query<{ n: number }>("update my_total set n = n + 1 returning n")).rows[0]!.n;
      }),
    );
    assert.equal(result, task.id);
    assert.equal(proxy.faults, task.id);
    assert.equal((await state.tasks.get(task.id)).attempts, 1, "the transaction was run again, not the task");
  }
  assert.ok(runs >= 4, "the one that never got there was run again");
  await agree(state, 3);
});

test("postgres: while a transaction takes its time its lease is renewed, and others commit", async (t) => {
  const { state } = await withTables(t, "postgres");
  await state.tasks.addAll([{ description: "slow" }, { description: "quick" }]);
  const open = gate();
  const worker = state.work({
    concurrency: 2,
    leaseMs: 900,
    trustLocks: false,
    execute: async (task, { step }) => {
      if (task.description === "quick") return step("quick", () => 1);
      return step.transaction("slow", async (client: PostgresHandle) => {
        await client.query("insert into my_ledger values (1, 'slow')");
        await open.promise;
      });
    },
  });
  await eventually(async () => (await state.tasks.get(2)).status === "completed", "the other completes");
  const held = (await state.tasks.get(1)).lease_expires_at!;
  await eventually(async () => (await state.tasks.get(1)).lease_expires_at! > new Date(Date.parse(held) + 900).toISOString(), "the lease is renewed beyond its first end");
  open.open();
  await eventually(async () => (await state.tasks.get(1)).status === "completed", "it completes");
  await worker.stop();
  assert.deepEqual((await state.history.of(1)).map(({ event }) => event), ["created", "claimed", "completed"]);
  assert.equal((await rowsOf(state, "select * from my_ledger")).length, 1);
});

test("postgres: transactions that deadlock run again from scratch; a key that is taken is the user's own failure", async (t) => {
  const { state } = await withTables(t, "postgres");
  await exec(state, "create table my_pairs (id integer primary key, n integer)", "insert into my_pairs values (1, 0), (2, 0)");
  await state.tasks.addAll([{ description: "ab" }, { description: "ba" }, { description: "taken", max_attempts: 1 }]);
  const both = [gate(), gate()];
  let runs = 0;
  const worker = state.work({
    concurrency: 3,
    execute: (task, { step }) =>
      step.transaction("pair", async (client: PostgresHandle) => {
        if (task.id === 3) return client.query("insert into my_pairs values (1, 1)");
        runs++;
        const [first, second] = task.id === 1 ? [1, 2] : [2, 1];
        await client.query("update my_pairs set n = n + 1 where id = $1", [first]);
        both[task.id - 1]!.open();
        await Promise.all(both.map(({ promise }) => promise));
        return (await client.query("update my_pairs set n = n + 1 where id = $1", [second])).rowCount;
      }),
  });
  await eventually(async () => (await state.tasks.count()).completed === 2, "both complete", 20_000);
  await eventually(async () => (await state.tasks.get(3)).status === "failed", "the third fails");
  await worker.stop();
  assert.ok(runs >= 3, "one of them was run again");
  assert.deepEqual([(await state.tasks.get(1)).attempts, (await state.tasks.get(2)).attempts], [1, 1]);
  assert.deepEqual(await rowsOf(state, "select n from my_pairs order by id"), [{ n: 2 }, { n: 2 }]);
  assert.match((await state.tasks.get(3)).error!.message, /duplicate key/);
});

for (const store of STORES.filter(({ name }) => name === "memory" || name === "json")) {
  test(`${store.name}: there is no database, and that is said`, async (t) => {
    const state = await store.open(t);
    await state.tasks.add({ description: "t" });
    const worker = state.work({ execute: (_, { step }) => step.transaction("x", () => 1) });
    await worker.idle();
    const { error, attempts } = await state.tasks.get(1);
    assert.deepEqual([error?.code, attempts], ["unsupported", 1]);
    assert.match(error!.message, /needs a state in SQLite or Postgres/);
    await worker.stop();
  });
}
