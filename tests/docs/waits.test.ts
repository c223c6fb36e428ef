// The pages on events and children do what they show: their programs run, and the commands between them move what waits.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { splitWords } from "../../src/core/words.ts";
import { openState, type State } from "../../src/state.ts";
import { main } from "../../src/surface/cli.ts";
import { eventually } from "../pawl.ts";

const AsyncFunction = (async () => undefined).constructor as new (...args: string[]) => (...values: unknown[]) => Promise<unknown>;

function page(name: string): { readonly programs: string[]; readonly lines: string[] } {
  const text = readFileSync(join(import.meta.dirname, "../../docs", `${name}.md`), "utf8");
  const blocks = (language: string) => [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].filter((block) => block[1] === language).map((block) => block[2]!);
  return { programs: blocks("ts"), lines: blocks("sh").filter((block) => !block.startsWith("#!")).flatMap((block) => block.split("\n")).filter((line) => line.startsWith("pawl ")) };
}

async function stateOf(t: TestContext): Promise<State> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-docs-"));
  const state = await openState(join(folder, "state.json"), { actor: "ann" });
  t.after(async () => (await state.close(), rmSync(folder, { recursive: true, force: true })));
  return state;
}

async function pawl(line: string, state: State): Promise<void> {
  const words = splitWords(line.split(/ && | +# /)[0]!);
  let said = "";
  const io = { out: () => undefined, err: (text: string) => void (said += text), stdin: async () => Buffer.from(""), tty: false, color: false, errColor: false, columns: 100, env: { PAWL_ACTOR: "bob" }, cwd: tmpdir() };
  assert.equal(await main([...words.slice(1), "--state", state.location], io), 0, `${line}: ${said}`);
}

test("docs/event.md: what it shows works", async (t) => {
  const state = await stateOf(t);
  const { programs, lines } = page("event");
  await state.tasks.add({ description: "order", input: { book: 1 } });
  await new AsyncFunction("state", "placeOrder", "ship", programs[0]!)(state, () => "ordered", (paid: unknown) => ({ shipped: paid }));
  await eventually(async () => (await state.tasks.get(1)).status === "waiting", "it waits");
  for (const line of lines.slice(0, 2)) await pawl(line, state);
  await eventually(async () => (await state.tasks.get(1)).status === "completed", "it was paid");
  assert.deepEqual((await state.tasks.get(1)).result, { shipped: { eur: 5 } });
  await new AsyncFunction("state", programs[1]!)(state);
  assert.equal((await state.events.list({ all: true })).length, 1, "the same key is the same event");
  await state.events.emit("deployed");
  await pawl(lines[2]!, state);
});

test("docs/child.md: what it shows works", async (t) => {
  const state = await stateOf(t);
  const { programs, lines } = page("child");
  await state.tasks.add({ description: "book", input: ["a", "b", "c"] });
  const summaries = new Map([["b", 0]]);
  const summarise = (chapter: string) => {
    const tries = summaries.get(chapter) ?? 9;
    summaries.set(chapter, tries + 1);
    if (tries === 0) throw Object.assign(new Error("no such chapter"), { status: 404 });
    return `${chapter}, in short`;
  };
  await new AsyncFunction("state", "summarise", "drawCover", "listChapters", programs[0]!)(state, summarise, () => "a cat", (input: unknown) => input);
  await eventually(async () => (await state.tasks.get(1)).status === "failed", "a chapter is missing");
  for (const line of lines.filter((one) => !one.includes("…"))) await pawl(line.replace("why 7", "why 3"), state);
  await eventually(async () => (await state.tasks.get(1)).status === "completed", "tried again");
  assert.deepEqual((await state.tasks.get(1)).result, { cover: "a cat", parts: ["a, in short", "b, in short", "c, in short"] });
});
