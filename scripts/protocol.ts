// `npm run protocol`: the MCP server against the protocol's own tools. The inspector's command line works a whole task over
// both transports and both eras; the conformance suite runs over HTTP. One line a check. Invariant: a check that fails, or that
// is skipped without a reason written here, ends it with exit code 1. The tools are fetched from npm into a temporary folder.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, request, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const TOOLS = {
  inspector: "@modelcontextprotocol/inspector@2.12.0",
  conformance: "@modelcontextprotocol/conformance@0.1.16",
  // The first that knows the revision of 2026; no release does yet.
  "conformance-next": "@modelcontextprotocol/conformance@0.2.0-alpha.12",
} as const;
const SUITES = [
  { tool: "conformance", revision: "2025-11-25" },
  { tool: "conformance-next", revision: "2025-11-25" },
  { tool: "conformance-next", revision: "2026-07-28" },
] as const;

/** The suite calls tools and reads resources of these names, which only a server made for it has. */
const FIXTURE = "needs a tool or resource that only the suite's own server has";
const PROMPTS = "Pawl has no prompts";
const CAPABILITY = "Pawl does not have this capability, and does not say so";
const STATELESS = "Pawl keeps no sessions: each request stands by itself";

/** Scenarios that do not apply, by the beginning of their name. */
const NOT_HERE: readonly (readonly [beginning: string, why: string])[] = [
  ["prompts-", PROMPTS],
  ["completion-complete", CAPABILITY],
  ["logging-set-level", CAPABILITY],
  ["server-session-lifecycle", STATELESS],
  ["server-sse-polling", STATELESS],
  ["json-schema-2020-12", FIXTURE],
  ["elicitation-", FIXTURE],
  ["input-required-result-", FIXTURE],
  ["http-custom-header-server-validation", FIXTURE],
  ["resources-read-", FIXTURE],
  ["resources-templates-read", FIXTURE],
  ["tools-call-simple-text", FIXTURE],
  ["tools-call-image", FIXTURE],
  ["tools-call-audio", FIXTURE],
  ["tools-call-embedded-resource", FIXTURE],
  ["tools-call-mixed-content", FIXTURE],
  ["tools-call-with-", FIXTURE],
  ["tools-call-sampling", FIXTURE],
  ["tools-call-elicitation", FIXTURE],
];
/** Single checks of scenarios that apply. */
const NOT_CHECKED: { readonly [check: string]: string } = {
  "sep-2575-server-rejects-undeclared-capability": FIXTURE,
  "sep-2575-missing-capability-http-400": FIXTURE,
  "sep-2549-prompts-list-caching-hints": PROMPTS,
  "server-sse-multiple-streams-session": STATELESS,
};
/** Holds in every scenario, also in those that do not apply: what was sent is valid by the schema of the revision. */
const ALWAYS = "wire-schema-valid";

type Check = { readonly id: string; readonly status: "SUCCESS" | "FAILURE" | "WARNING" | "SKIPPED" | "INFO"; readonly errorMessage?: string };

const root = join(import.meta.dirname, "..");
const bin = join(root, "src", "surface", "bin.ts");
const folder = mkdtempSync(join(tmpdir(), "pawl-protocol-"));
const state = join(folder, "state.json");
// The inspector keeps files in its user's home.
const environment = { ...process.env, HOME: join(folder, "home"), PAWL_STATE: state, PAWL_ACTOR: "protocol", NO_COLOR: "1" };
const counts = { passed: 0, failed: 0 };
const left = new Map<string, string[]>();

let server = null as ChildProcess | null;
let front = null as Server | null;
try {
  fetchTools();
  const served = await serve();
  for (const transport of ["stdio", "http"] as const) for (const era of ["legacy", "modern"] as const) wholeTask(transport, era, served);
  front = await frontOf(served);
  const url = `http://127.0.0.1:${(front.address() as AddressInfo).port}/mcp`;
  for (const suite of SUITES) await conformance(suite, url);
  report();
} finally {
  front?.close();
  server?.kill("SIGTERM");
  if (server && server.exitCode === null) await once(server, "exit");
  rmSync(folder, { recursive: true, force: true });
}

function say(passed: boolean, what: string, why = ""): void {
  counts[passed ? "passed" : "failed"] += 1;
  console.log(`${passed ? "ok  " : "FAIL"} ${what}${passed || why === "" ? "" : `: ${why.slice(0, 400)}`}`);
}

/** Each of the tools under a name of its own: two versions of one package stand side by side. */
function fetchTools(): void {
  console.log(`Fetching ${Object.values(TOOLS).join(", ")}`);
  mkdirSync(environment.HOME);
  const specs = Object.entries(TOOLS).map(([name, spec]) => `${name}@npm:${spec}`);
  const result = spawnSync("npm", ["install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", ...specs], { encoding: "utf8", shell: process.platform === "win32" });
  if (result.status !== 0) throw new Error(`npm could not fetch them: ${result.stderr || result.error?.message}`);
}

function fileOf(tool: keyof typeof TOOLS, path: string): string {
  return join(folder, "node_modules", tool, path);
}

type Served = { readonly url: URL; readonly token: string };

/** `pawl mcp --http` on a fresh state. */
async function serve(): Promise<Served> {
  server = spawn(process.execPath, [bin, "--json", "mcp", "--http", "--port", "0"], { cwd: folder, env: environment, stdio: ["ignore", "pipe", "ignore"] });
  const [line] = (await once(server.stdout!.setEncoding("utf8"), "data")) as [string];
  const { url, token_file } = (JSON.parse(line) as { data: { url: string; token_file: string } }).data;
  return { url: new URL(url), token: readFileSync(token_file, "utf8").trim() };
}

/* ---------- the inspector ---------- */

type Answered = { readonly code: number | null; readonly text: string; readonly data: any };

/** Add, claim, complete, show, as a client does it; and what a client sees of a mistake and of the resources. */
function wholeTask(transport: "stdio" | "http", era: "legacy" | "modern", { url, token }: Served): void {
  const where = transport === "stdio" ? [process.execPath, bin, "mcp"] : [url.href, "--transport", "http", "--header", `Authorization: Bearer ${token}`];
  const inspect = (...args: string[]): Answered => {
    const result = spawnSync(process.execPath, [fileOf("inspector", "clients/launcher/build/index.js"), "--cli", ...where, "--protocol-era", era, "--format", "json", "--quiet", ...(transport === "stdio" ? ["-e", `PAWL_STATE=${state}`] : []), ...args], { cwd: folder, env: environment, encoding: "utf8", timeout: 60_000 });
    return { code: result.status, text: `${result.stdout}${result.stderr}`, data: parsed(result.stdout) };
  };
  const call = (tool: string, input: object) => inspect("--method", "tools/call", "--tool-name", tool, "--tool-args-json", JSON.stringify(input));
  const name = `inspector, ${transport}, ${era}`;
  const tools = inspect("--method", "tools/list", "--strict");
  say(tools.code === 0 && tools.data?.result?.tools?.length === 12, `${name}: tools/list --strict`, tools.text);
  const added = contentOf(call("task_add", { description: `by ${name}`, key: name }));
  say(added?.status === "pending", `${name}: task_add`, JSON.stringify(added));
  const claim = contentOf(call("task_claim", { caller: name }));
  say(claim?.task?.id === added?.id && claim?.task?.status === "in_progress", `${name}: task_claim`, JSON.stringify(claim));
  const current = inspect("--method", "resources/read", "--uri", "task://current");
  say(parsed(current.data?.result?.contents?.[0]?.text ?? "")?.tasks?.[0]?.id === added?.id, `${name}: resources/read task://current`, current.text);
  const done = contentOf(call("task_complete", { id: added?.id, token: claim?.token, result: { by: era } }));
  say(done?.status === "completed", `${name}: task_complete`, JSON.stringify(done));
  const shown = contentOf(call("task_show", { id: added?.id }));
  say(shown?.task?.status === "completed" && shown.task.result?.by === era, `${name}: task_show`, JSON.stringify(shown));
  const missing = call("task_show", { id: 999 });
  say(missing.code !== 0 && contentOf(missing)?.code === "not_found", `${name}: a mistake is a result that says so`, missing.text);
}

function contentOf({ data }: Answered): any {
  return parsed(data?.result?.content?.[0]?.text ?? "")?.data;
}

function parsed(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/* ---------- the conformance suite ---------- */

/**
 * The suite can send no token, so it speaks to a server in front that adds one. A request that names that server is passed on as
 * one that names ours; any other name, and any other origin, is passed on as it is: ours must refuse it.
 */
async function frontOf({ url, token }: Served): Promise<Server> {
  const listening = createServer((incoming, outgoing) => {
    const { port } = listening.address() as AddressInfo;
    const named = (value: string | undefined) => value?.replace(new RegExp(`^((?:http://)?(?:127\\.0\\.0\\.1|localhost)):${port}$`), `$1:${url.port}`);
    const headers: IncomingHttpHeaders = { ...incoming.headers, authorization: `Bearer ${token}` };
    for (const name of ["host", "origin"] as const) if (headers[name] !== undefined) headers[name] = named(headers[name])!;
    const onward = request({ host: url.hostname, port: url.port, path: incoming.url, method: incoming.method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => onward.destroy());
    incoming.pipe(onward);
  }).listen(0, "127.0.0.1");
  await once(listening, "listening");
  return listening;
}

/** In a process of its own while this one is the server in front. */
async function conformance({ tool, revision }: (typeof SUITES)[number], url: string): Promise<void> {
  const results = join(folder, `${tool}-${revision}`);
  const suite = spawn(process.execPath, [fileOf(tool, "dist/index.js"), "server", "--url", url, "--suite", "all", "--spec-version", revision, "--output-dir", results], { cwd: folder, env: environment, stdio: "ignore", timeout: 300_000 });
  await once(suite, "exit");
  const scenarios = readdirSync(results).sort();
  if (scenarios.length < 30) say(false, `${tool} ${revision}`, `it ran ${scenarios.length} scenarios`);
  for (const scenario of scenarios) {
    const checks = JSON.parse(readFileSync(join(results, scenario, "checks.json"), "utf8")) as Check[];
    judge(`${TOOLS[tool].split("@").at(-1)}, ${revision}`, scenario.replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, "").replace(/^server-(?!initialize|stateless|sse|session)/, ""), checks);
  }
}

function judge(suite: string, scenario: string, checks: readonly Check[]): void {
  const why = NOT_HERE.find(([beginning]) => scenario.startsWith(beginning))?.[1];
  const counted = checks.filter(({ id, status }) => (why === undefined || id === ALWAYS) && status !== "INFO" && status !== "SKIPPED" && NOT_CHECKED[id] === undefined);
  const reasons = new Set([...(why === undefined ? [] : [why]), ...checks.flatMap(({ id }) => NOT_CHECKED[id] ?? [])]);
  for (const reason of reasons) left.set(reason, [...(left.get(reason) ?? []), scenario]);
  const bad = counted.filter(({ status }) => status !== "SUCCESS");
  if (counted.length > 0) say(bad.length === 0, `conformance ${suite}: ${scenario}${why === undefined ? ` (${counted.length})` : ": what is sent is valid"}`, bad.map(({ id, errorMessage }) => `${id}: ${errorMessage ?? ""}`).join("; "));
}

function report(): void {
  console.log("\nNot applicable:");
  for (const [reason, scenarios] of left) console.log(`  ${reason}: ${[...new Set(scenarios)].join(", ")}`);
  console.log(`\n${counts.passed} passed, ${counts.failed} failed`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
}
