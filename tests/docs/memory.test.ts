// The pages on artifacts and memory do what they show: every `pawl` line of their shell blocks and every line of their
// TypeScript blocks runs, in order, on one state.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { splitWords } from "../../src/core/words.ts";
import { openState } from "../../src/state.ts";
import { main } from "../../src/surface/cli.ts";

const LOG = "error: no space left on device\n".repeat(200);

for (const name of ["artifact", "memory"]) {
  test(`docs/${name}.md: what it shows works`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "pawl-docs-"));
    const config = process.env["XDG_CONFIG_HOME"];
    process.env["XDG_CONFIG_HOME"] = folder;
    t.after(() => {
      if (config === undefined) delete process.env["XDG_CONFIG_HOME"];
      else process.env["XDG_CONFIG_HOME"] = config;
      rmSync(folder, { recursive: true, force: true });
    });
    writeFileSync(join(folder, "build.log"), LOG);
    const state = await openState(join(folder, "state.json"));
    const { id } = await state.artifacts.put(LOG);
    const page = readFileSync(join(import.meta.dirname, "../../docs", `${name}.md`), "utf8").replaceAll("sha256-3fa9c1", id).replaceAll("put build.log", `put ${join(folder, "build.log")}`);
    let ran = 0;
    for (const [, language, text] of page.matchAll(/^```(sh|ts)\n([^]*?)^```$/gm)) {
      if (language === "ts") await new AsyncFunction("state", "log", text!)(state, LOG);
      for (const line of language === "sh" ? text!.split("\n") : []) ran += await run(line, state.location, folder);
    }
    assert.ok(ran >= 6, `only ${ran} lines`);
    await state.close();
  });
}

const AsyncFunction = (async () => undefined).constructor as new (...args: string[]) => (...values: unknown[]) => Promise<unknown>;

/** Runs one line unless it begins with another program; 1 when it did. What is redirected is left to the shell. */
async function run(line: string, state: string, cwd: string): Promise<number> {
  const words = splitWords(line.split(" > ")[0]!);
  if (words[0] !== "pawl") return 0;
  let said = "";
  const code = await main([...words.slice(1), "--state", state], {
    out: () => undefined, err: (text) => void (said += text), stdin: async () => Buffer.from(""), tty: false, color: false, errColor: false, columns: 100, env: { PAWL_ACTOR: "ann" }, cwd,
  });
  assert.equal(code, 0, `${line}: ${said}`);
  return 1;
}
