// Tests of the tests: a copy of the sources with one deliberate bug, and the one test that must fail on it.
// Invariant: a patch whose text is not there exactly once is an error (the code moved, the mutant must follow), and so is
// a test that is not there, or that fails because the patched file cannot be loaded. That it passes without a patch shows
// where it stands: the same suite runs it there.
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** `test`: the test file, and the beginning of a name in it (a regular expression). */
export type Mutant = { readonly name: string; readonly file: string; readonly find: string; readonly replace: string; readonly test: readonly [file: string, pattern: string] };
/** `ended`: it hung and was ended. */
export type Ran = { readonly passed: number; readonly failed: number; readonly ended: boolean; readonly output: string };

const ROOT = join(import.meta.dirname, "..", "..", "..");
/** A mutant may make its test hang. */
const TIMEOUT_MS = 60_000;
/** How Node says that a file could not be loaded: such a failure shows nothing. */
const UNLOADABLE = /SyntaxError|ReferenceError|ERR_MODULE_NOT_FOUND|ERR_UNSUPPORTED_TYPESCRIPT/;

/** A copy of the checkout to break; `remove` takes it away. */
export function copyCheckout(): { folder: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "pawl-mutants-"));
  for (const name of ["src", "tests", "scripts", "package.json", "tsconfig.json"]) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Applies the bug, runs its test, takes the bug out again; returns what is wrong with the mutant or its test, or null. */
export async function tryMutant(folder: string, mutant: Mutant): Promise<string | null> {
  const path = join(folder, mutant.file);
  const source = readFileSync(path, "utf8");
  const times = source.split(mutant.find).length - 1;
  if (times !== 1) return `its text is ${times} times in ${mutant.file}: write the mutant anew`;
  writeFileSync(path, source.replace(mutant.find, () => mutant.replace));
  try {
    const { passed, failed, ended, output } = await runTest(folder, mutant.test);
    if (UNLOADABLE.test(output)) return `it cannot be loaded:\n${output.slice(-2_000)}`;
    if (failed > 0 || ended) return null;
    return `${mutant.test[0]} "${mutant.test[1]}" ${passed > 0 ? "passes on it" : "is not there"}`;
  } finally {
    writeFileSync(path, source);
  }
}

/** Runs the tests of that name. */
function runTest(folder: string, [file, pattern]: Mutant["test"]): Promise<Ran> {
  const env = { ...process.env };
  // Otherwise the runner takes itself for a child of ours and reports in its own format.
  delete env["NODE_TEST_CONTEXT"];
  const child = spawn(process.execPath, ["--test", "--test-isolation=none", "--test-reporter=tap", `--test-name-pattern=${pattern}`, join(folder, file)], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  // The processes that the test started would outlive it.
  const timer = setTimeout(() => (ended = process.kill(-child.pid!, "SIGKILL")), TIMEOUT_MS);
  let ended = false;
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const counted = (what: string) => Number(new RegExp(`^# ${what} (\\d+)`, "m").exec(output)?.[1] ?? 0);
  return new Promise((resolve) => child.on("close", () => {
    clearTimeout(timer);
    resolve({ passed: counted("pass"), failed: counted("fail"), ended, output });
  }));
}
