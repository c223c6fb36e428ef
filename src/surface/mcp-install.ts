// `pawl mcp install claude`: what Claude Code needs to know of this project's tasks: the server, the hook that tells it at the
// start of a session where things stand, the skill. Invariant: nothing is written before it was shown and agreed to, and what
// stood in a file stays there.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isPawlError, PawlError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/fs.ts";
import { parseStrict } from "../base/json-text.ts";
import type { Json } from "../base/json.ts";
import { shellQuote } from "../core/words.ts";
import { escapeText } from "./escape.ts";
import { holdsPassword } from "./location.ts";
import type { Shell } from "./shell.ts";

type Fields = { readonly [key: string]: Json };
type Planned = { readonly path: string; readonly text: string; readonly was: string | null };

/** As whom the agent acts on a command line. */
const ACTOR = "claude";
const SKILL = fileURLToPath(new URL("../../skills/pawl/SKILL.md", import.meta.url));

/** Writes the files of `client` into the caller's folder. */
export async function install(shell: Shell, client: string, flags: { readonly yes?: boolean; readonly dryRun?: boolean }): Promise<void> {
  if (client !== "claude") throw new PawlError("usage", `There is no installer for ${JSON.stringify(client.slice(0, 40))}.`, { next: "pawl mcp install claude. For others see docs/mcp.md: it has what to put into their configuration." });
  const { io } = shell;
  const { state } = shell.globals();
  if (state !== undefined) checkShareable(state);
  const planned = planFor(io.cwd, ownCommand(io.cwd, state));
  const changes = planned.filter(({ text, was }) => text !== was);
  if (changes.length === 0) return void io.out("Everything is there already.\n");
  for (const { path, text, was } of changes) io.out(`${was === null ? "New file" : "Changed"}: ${escapeText(path)}\n${escapeText(text).replaceAll(/^/gm, "  ").trimEnd()}\n\n`);
  if (flags.dryRun) return void io.out("Nothing was written (--dry-run).\n");
  if (!flags.yes && !(await agreed(shell))) throw new PawlError("cancelled", "Nothing was written.", { next: "To write these files: pawl mcp install claude --yes." });
  for (const { path, text } of changes) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileAtomic(path, text, { mode: 0o644 });
  }
  io.out(`Written. Start Claude Code anew in ${escapeText(io.cwd)}; it asks whether it may use the server.\n`);
  if (state === undefined && io.env["PAWL_STATE"]) io.out("PAWL_STATE was not written: the server uses the state it names where Claude Code is started with it.\n");
}

/** These files are shared with a project: a password has no place in them. */
function checkShareable(state: string): void {
  if (!holdsPassword(state)) return;
  throw new PawlError("usage", "The URL of the state holds a password, and these files are read by others. Nothing was written.", {
    next: "Set PAWL_STATE to the URL in the environment from which Claude Code is started, and leave out --state. Or leave out the password: PGPASSWORD and ~/.pgpass are read.",
  });
}

async function agreed(shell: Shell): Promise<boolean> {
  if (!shell.ask) return false;
  return /^y(es)?$/i.test((await shell.ask("Write these files? [y/N] ", new AbortController().signal)).trim());
}

/** How this very pawl is called: by its name in a project that has it, else by its path; never what a registry has by that name. */
function ownCommand(cwd: string, state: string | undefined): readonly string[] {
  const own = existsSync(join(cwd, "node_modules", ".bin", "pawl")) ? ["npx", "--no-install", "pawl"] : [process.execPath, fileURLToPath(new URL(`../surface/bin${import.meta.url.slice(-3)}`, import.meta.url))];
  return state === undefined ? own : [...own, "--state", state];
}

function planFor(cwd: string, [command, ...args]: readonly string[]): readonly Planned[] {
  const servers = (before: Fields): Fields => ({ ...before, mcpServers: { ...fieldsOf(before["mcpServers"]), pawl: { type: "stdio", command: command!, args: [...args, "mcp"] } } });
  const hook = [command!, ...args, "prime", "--hook"].map(shellQuote).join(" ");
  return [
    edited(join(cwd, ".mcp.json"), servers),
    edited(join(cwd, ".claude", "settings.json"), (before) => withActor(withHook(before, hook))),
    plain(join(cwd, ".claude", "skills", "pawl", "SKILL.md"), readFileSync(SKILL, "utf8")),
  ];
}

/** The hook at the start of a session, which comes after a restart and after a context clear alike. An older one of ours is replaced. */
function withHook(before: Fields, command: string): Fields {
  const hooks = fieldsOf(before["hooks"]);
  const groups = Array.isArray(hooks["SessionStart"]) ? (hooks["SessionStart"] as readonly Json[]) : [];
  const others = groups.filter((group) => !/ prime --hook"/.test(JSON.stringify(group)));
  return { ...before, hooks: { ...hooks, SessionStart: [...others, { hooks: [{ type: "command", command }] }] } };
}

/** What the agent does in a shell is told apart from what its user does; over MCP the client says its name itself. */
function withActor(before: Fields): Fields {
  return { ...before, env: { PAWL_ACTOR: ACTOR, ...fieldsOf(before["env"]) } };
}

const fieldsOf = (value: Json | undefined): Fields => (typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {});

function edited(path: string, change: (before: Fields) => Fields): Planned {
  const was = existsSync(path) ? readFileSync(path, "utf8") : null;
  return { path, was, text: `${JSON.stringify(change(was === null ? {} : parsed(path, was)), null, 2)}\n` };
}

function plain(path: string, text: string): Planned {
  return { path, text, was: existsSync(path) ? readFileSync(path, "utf8") : null };
}

function parsed(path: string, text: string): Fields {
  try {
    const { value } = parseStrict(text, path);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  } catch (error) {
    if (!isPawlError(error)) throw error;
    throw new PawlError("usage", error.message, { next: "Mend the file first; it was left as it is.", cause: error });
  }
  throw new PawlError("usage", `${path} is not a JSON object.`, { next: "Mend the file first; it was left as it is." });
}
