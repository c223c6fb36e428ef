// `npm start`: Pawl's main job on real files, in a temporary folder, without a key or a network. It makes an index card for
// each rule file of this repository with a verifier, one task fails before it succeeds and one is sent back, the run is
// killed with kill -9 in the middle, and the same command goes on where it stopped.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "pawl-demo-"));
const log = join(folder, "executions.log");
const bin = join(root, "src", "surface", "bin.ts");
const card = join(root, "scripts", "demo-card.ts");

const files = readdirSync(join(root, "src", "core")).filter((name) => name.endsWith(".ts")).slice(0, 8);
writeFileSync(join(folder, "cards.jsonl"), files.map((name) => `${JSON.stringify({ description: `Index card for src/core/${name}`, input: { file: join(root, "src", "core", name) } })}\n`).join(""));

const RUN = ["run", "cards.jsonl", "--exec", `node ${card} write {input.file}`, "--verify", `node ${card} check`, "--backoff", "300ms"];
const environment = { ...process.env, PAWL_DEMO_LOG: log, PAWL_DEMO_FOLDER: folder, PAWL_ACTOR: "demo" };

say(`A folder with a list of ${files.length} tasks: ${folder}`);
say("The first run; it is killed with kill -9 while its fourth card is in the making.");
show(RUN);
await killedRun();
say("What a person finds afterwards:");
pawl(["status"]);
say("The same list again, nothing repeated: it goes on where it stopped, as it was started.");
const ended = pawl(["run", "cards.jsonl"]);
say("Why one of them took two attempts:");
pawl(["history", "2"]);
report(ended);

function say(text: string): void {
  console.log(`\n# ${text}`);
}

function show(args: readonly string[]): void {
  console.log(`$ pawl ${args.map((arg) => (/\s|[{}]/.test(arg) ? `'${arg.replaceAll(`${root}/`, "")}'` : arg)).join(" ")}`);
}

/** Runs until the third card is completed and the fourth is in work, then kills it the hard way. */
function killedRun(): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [bin, ...RUN], { cwd: folder, env: environment, stdio: ["ignore", "pipe", "inherit"] });
    let seen = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      process.stdout.write(text);
      seen += text;
      // A moment after the fourth task has begun: its command is at work then.
      if (/Completed \(3\/[\s\S]*\[Task/.test(seen)) setTimeout(() => child.kill("SIGKILL"), 200);
    });
    child.on("close", (_, signal) => {
      console.log(signal === "SIGKILL" ? "*** kill -9 ***" : "(it ended before it could be killed)");
      resolve();
    });
  });
}

function pawl(args: readonly string[]): number {
  show(args);
  return spawnSync(process.execPath, [bin, ...args], { cwd: folder, env: environment, stdio: ["ignore", "inherit", "inherit"] }).status ?? 1;
}

/** The proof is kept outside the state: each finished card was written once for each attempt that was asked for. */
function report(status: number): void {
  const lines = readFileSync(log, "utf8").trim().split("\n");
  const cards = readdirSync(folder).filter((name) => name.endsWith(".card"));
  say(`${cards.length} cards, ${lines.length} executions: ${files.length} cards, one failure, one rejection, one killed in the middle. No finished card was made again.`);
  console.log(`Look around: cd ${folder}; cat .pawl/state.json; ls`);
  process.exitCode = status === 0 && cards.length === files.length ? 0 : 1;
}
