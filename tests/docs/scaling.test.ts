// What docs/scaling.md lists of the SQL that Pawl relies on is what the SQL of the Postgres store uses. Invariant: whoever
// judges another database by that list is told neither too little nor too much.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "../..");
const STORE = join(ROOT, "src/store/postgres");
/** What Postgres and databases that speak its language differ in. Found in the text of both, in any case. */
const FEATURES = [
  "skip locked", "for no key update", "for update", "for share", "lock table", "listen", "pg_notify", "on conflict", "json_to_recordset", "jsonb_", "lateral", "unnest", "clock_timestamp()",
  "set_config", "current_setting", "set local", "synchronous_commit", "collate \"C\"", "nulls first", "fillfactor", "pg_advisory", "savepoint", "create trigger", "create function", "create sequence",
  "create temp", "returning", "information_schema", "pg_class", "pg_index", "comment on index", "has_table_privilege", "aclexplode", "pg_stat_activity", "pg_settings", "pg_is_in_recovery",
  "transaction_read_only", "read committed", "repeatable read", "serializable", "txid_", "pg_backend_pid",
];

/** The strings and templates of the Postgres store, without its comments. */
const sql = readdirSync(STORE)
  .map((name) => readFileSync(join(STORE, name), "utf8").replaceAll(/\/\*[^]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, ""))
  .flatMap((text) => text.match(/"(?:\\.|[^"\n\\])*"|'(?:\\.|[^'\n\\])*'|`(?:\\.|[^`\\])*`/g) ?? []).join("\n").toLowerCase();
const page = readFileSync(join(ROOT, "docs/scaling.md"), "utf8");
const section = /^## Databases that speak Postgres\n([^]*?)^## /m.exec(page)?.[1] ?? "";
const listed = [...section.split("\n").filter((line) => line.startsWith("|")).join("\n").matchAll(/`([^`]+)`/g)].map(([, text]) => text!.toLowerCase());

test("the list of SQL features in docs/scaling.md is what the store uses", () => {
  assert.ok(sql.length > 5_000 && listed.length > 10, "something was read");
  for (const feature of FEATURES) {
    const used = sql.includes(feature.toLowerCase());
    assert.equal(listed.some((text) => text.includes(feature.toLowerCase())), used, `${feature}: ${used ? "used, and not in the list" : "in the list, and not used"}`);
  }
  for (const text of listed) assert.ok(sql.includes(text), `\`${text}\` is in the list, and not in the SQL`);
});
