// The task of the transaction tests: three steps, each adding a row of its own and counting it, on either database.
import type { Task } from "../../src/core/records.ts";
import type { PostgresHandle, SqliteHandle } from "../../src/store/store.ts";
import type { TaskContext } from "../../src/worker/context.ts";

export async function transfer(task: Task, { step }: Pick<TaskContext, "step">): Promise<number[]> {
  const totals: number[] = [];
  for (const name of ["one", "two", "three"]) {
    totals.push(
      await step.transaction<number>(name, (sql) => ("query" in sql ? onPostgres(sql, task.id, name) : onSqlite(sql, task.id, name))),
    );
  }
  return totals;
}

function onSqlite(db: SqliteHandle, id: number, name: string): number {
  db.run("insert into my_ledger (task, step) values (?, ?)", id, name);
  db.exec("update my_total set n = n + 1");
  return Number(db.get("select n from my_total")!["n"]);
}

async function onPostgres(client: PostgresHandle, id: number, name: string): Promise<number> {
  await client.query("insert into my_ledger (task, step) values ($1, $2)", [id, name]);
  const { rows } = await client.query<{ n: number }>("update my_total set n = n + 1 returning n");
  return rows[0]!.n;
}

/** The user's tables. They have no key: what is written twice is there twice. */
export const TABLES = ["create table my_ledger (task integer, step text)", "create table my_total (n integer)", "insert into my_total values (0)"];
