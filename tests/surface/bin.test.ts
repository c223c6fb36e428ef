// The program's first file: what a Node too old for the rest reads, and how it ends.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { BIN, place } from "../pawl.ts";

const source = readFileSync(BIN, "utf8");
/** The file as a Node without type stripping gets it from the package. */
const script = ts.transpile(source.replace("start().then(", "Promise.resolve(0).then("), { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext });

/** What it does on a Node of this version. */
function onNode(version: string) {
  const pretended = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${version}" } });\n${script.replace(/^#!.*\n/, "")}`;
  return spawnSync(process.execPath, ["--input-type=module", "-e", pretended], { encoding: "utf8" });
}

test("it starts with the shebang and imports nothing statically", () => {
  assert.ok(source.startsWith("#!/usr/bin/env node\n"));
  assert.doesNotMatch(source, /^\s*(import|export)[\s{*]/m);
});

test("it uses no syntax newer than ES2020", () => {
  const lowered = ts.transpile(source, { target: ts.ScriptTarget.ES2020, module: ts.ModuleKind.ESNext });
  assert.equal(lowered, ts.transpile(source, { target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext }));
  assert.doesNotMatch(lowered, /^await /m, "no await outside a function");
});

test("on a Node too old it says what, why and what next, and nothing on stdout", () => {
  for (const version of ["18.20.8", "22.17.1", "20.20.2"]) {
    const { status, stdout, stderr } = onNode(version);
    assert.deepEqual([status, stdout], [1, ""], stderr);
    assert.ok(stderr.includes(version), stderr);
    assert.match(stderr, /22\.18/);
    assert.match(stderr, /nodejs\.org/);
    assert.doesNotMatch(stderr, /^\s+at /m);
  }
  assert.equal(onNode("22.18.0").status, 0);
});

test("the version, the help, and no warning on stderr", async (t) => {
  const at = place(t);
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as { version: string };
  const [shown, help, none] = await Promise.all([at.pawl(["--version"]), at.pawl(["--help"]), at.pawl([])]);
  assert.deepEqual(shown, { code: 0, signal: null, stdout: `${version}\n`, stderr: "" });
  assert.equal(help.code, 0);
  for (const word of ["run", "worker", "step", "add", "list", "inbox", "batch", "completion", "--json", "--state", "Exit codes:"]) assert.ok(help.stdout.includes(word), word);
  assert.deepEqual([none.stdout, none.stderr, none.code], [help.stdout, "", 0]);
});

test("when nobody reads any more it ends quietly", async (t) => {
  const at = place(t);
  for (const _ of [1, 2]) await at.pawl(["add", "-"], { input: "x".repeat(200_000) });
  const child = spawn(process.execPath, [BIN, "list", "--json"], { env: { ...process.env, PAWL_STATE: at.state }, stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdout.once("data", () => child.stdout.destroy());
  const [code] = await once(child, "close");
  assert.deepEqual([code, stderr], [0, ""]);
});
