// What an agent of a thousand turns costs, one KiB a turn, on each store (Postgres on a server of its own, or PAWL_TEST_PG_URL): bytes
// on the disk against the bytes that were said, the time of late turns against early ones, and the memory of the
// process. `node bench/agent.ts [--quick]`; writes bench/out/agent.json.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { startPostgres } from "../scripts/postgres.ts";
import { agent } from "../src/agent/agent.ts";
import type { LanguageModel } from "../src/agent/model.ts";
import { openState } from "../src/state.ts";

const TURNS = process.argv.includes("--quick") ? 200 : 1_000;
const TEXT = "What I see here is worth a note. ".repeat(25).slice(0, 800);

type Row = { readonly store: string; readonly times_raw: number; readonly early_ms: number; readonly late_ms: number; readonly rss_growth_mb: number; readonly resume_ms: number };

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Says 800 bytes and calls a tool that answers 200, until the last turn. */
function talker(turns: { at: number[]; rss: number[]; raw: number }): LanguageModel {
  return {
    specificationVersion: "v4", provider: "bench", modelId: "talker",
    doGenerate: async ({ prompt }: { prompt: readonly unknown[] }) => {
      turns.at.push(performance.now());
      turns.rss.push(process.memoryUsage().rss);
      turns.raw += 1_024;
      const n = turns.at.length;
      const input = { total: Math.ceil(JSON.stringify(prompt).length / 4) };
      const call = { type: "tool-call", toolCallId: `call-${n}`, toolName: "note", input: JSON.stringify({ n }) };
      return { content: [{ type: "text", text: `${n} ${TEXT}` }, ...(n < TURNS ? [call] : [])], finishReason: { unified: "stop" }, usage: { inputTokens: input, outputTokens: { total: 220 } } };
    },
    doStream: () => Promise.reject(new Error("not streamed")),
  };
}

function bytesOf(path: string): number {
  const stat = statSync(path);
  return stat.isDirectory() ? readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0) : stat.size;
}

/** Tables and indexes of a schema, as they are on the disk; the log of the server, which it reuses, is not in it. */
async function bytesInSchema(url: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ bytes: string }>(
    "select sum(pg_total_relation_size(c.oid)) as bytes from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname = $1",
    [new URL(url).searchParams.get("schema")],
  );
  await client.end();
  return Number(rows[0]!.bytes);
}

async function onFile(store: string, file: string): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-bench-agent-"));
  try {
    return await run(store, join(folder, file), () => bytesOf(folder));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function onPostgres(): Promise<Row> {
  const server = process.env["PAWL_TEST_PG_URL"] ? null : await startPostgres();
  try {
    const url = new URL(process.env["PAWL_TEST_PG_URL"] ?? server!.url);
    url.searchParams.set("schema", `bench_agent_${process.pid}`);
    return await run("Postgres", url.href, () => bytesInSchema(url.href));
  } finally {
    await server?.stop();
  }
}

async function run(store: string, url: string, bytes: () => number | Promise<number>): Promise<Row> {
  const turns = { at: [] as number[], rss: [] as number[], raw: 0 };
  const state = await openState(url);
  const { id } = await state.tasks.add({ description: "talk" });
  const tools = { note: { risk: "read_only" as const, execute: () => "noted ".repeat(35) } };
  const limits = { max_steps: null, max_wall_time_ms: null, max_llm_tokens: null };
  const worker = state.work({ execute: agent({ model: talker(turns), tools, budget: limits }) });
  await worker.idle();
  const { status, error } = await state.tasks.get(id);
  if (status !== "completed") throw new Error(`it ended ${status}: ${JSON.stringify(error)}`);
  await state.close();
  const took = turns.at.slice(1).map((at, i) => at - turns.at[i]!);
  const tenth = Math.floor(took.length / 10);
  const opened = performance.now();
  const again = await openState(url);
  await again.agents.messages(id);
  const resume = performance.now() - opened;
  await again.close();
  return {
    store, times_raw: round((await bytes()) / turns.raw), early_ms: round(median(took.slice(tenth, 2 * tenth))), late_ms: round(median(took.slice(-tenth))),
    rss_growth_mb: round((turns.rss.at(-1)! - turns.rss[tenth]!) / 2 ** 20), resume_ms: round(resume),
  };
}

const round = (n: number): number => Math.round(n * 100) / 100;

const rows = [await onFile("JSON", "state.json"), await onFile("SQLite", "state.db"), await onPostgres()];
console.table(rows);
mkdirSync(join(import.meta.dirname, "out"), { recursive: true });
writeFileSync(join(import.meta.dirname, "out/agent.json"), `${JSON.stringify({ turns: TURNS, rows }, null, 2)}\n`);
