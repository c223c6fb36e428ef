// docs/resumable-loop.md as a reader follows it: the code before runs, at most ten lines differ after, and the code after goes on
// where kill -9 stopped it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { eventually } from "../pawl.ts";
import { results } from "./agents.ts";
import { modelServer } from "./server.ts";

const ROOT = join(import.meta.dirname, "../..");
const [before, after] = [...readFileSync(join(ROOT, "docs/resumable-loop.md"), "utf8").matchAll(/^```ts\n([^]*?)^```$/gm)].map((match) => match[1]!) as [string, string];

test("the guide changes at most ten lines, indentation aside", () => {
  const lines = (code: string) => code.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const old = lines(before);
  const changed = lines(after).filter((line) => {
    const at = old.indexOf(line);
    if (at >= 0) old.splice(at, 1);
    return at < 0;
  });
  assert.ok(changed.length <= 10, `${changed.length} lines:\n${changed.join("\n")}`);
  assert.ok(old.length <= 3, `lines that went: ${old.join("\n")}`);
});

test("the guide's loop goes on after kill -9, repeats nothing, and gives the stored answer at the end", async (t) => {
  const never = new Promise<never>(() => undefined);
  const server = await modelServer(t, (asked, turn) => {
    if (turn === 0) return { calls: [{ name: "size", args: { path: "a.txt" } }, { name: "size", args: { path: "b.txt" } }] };
    const [a, b] = results(asked.messages).map(Number) as [number, number];
    return { text: a > b ? "a.txt" : "b.txt", ...(killing ? { before: never } : {}) };
  });
  let killing = false;
  const folder = mkdtempSync(join(tmpdir(), "pawl-guide-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  write("package.json", '{"type": "module"}');
  write("a.txt", "a".repeat(10));
  write("b.txt", "b".repeat(20));
  write("model.ts", `import { createOpenAICompatible } from "@ai-sdk/openai-compatible";\nexport const model = createOpenAICompatible({ name: "test", baseURL: "${server.url}" })("m");\n`);
  write("before.ts", before);
  write("after.ts", after.replace('"pawl"', JSON.stringify(pathToFileURL(join(ROOT, "src/index.ts")).href)));
  const start = (file: string) => {
    const child = spawn(process.execPath, [file], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (out += text));
    return { kill: () => child.kill("SIGKILL"), ended: new Promise<string>((resolve) => child.on("close", () => resolve(out))) };
  };
  assert.equal(await start("before.ts").ended, "b.txt\n");
  assert.equal(server.asked.length, 2);
  killing = true;
  server.asked.length = 0;
  const first = start("after.ts");
  await eventually(() => server.asked.length === 2, "the second question is on its way");
  first.kill();
  await first.ended;
  killing = false;
  write("a.txt", "a".repeat(99)); // a tool that ran again would see this
  assert.equal(await start("after.ts").ended, "b.txt\n");
  assert.equal(server.asked.length, 3);
  assert.equal(await start("after.ts").ended, "b.txt\n");
  assert.equal(server.asked.length, 3, "the stored answer, and nobody was asked");
});
