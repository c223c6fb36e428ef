// `pawl ui` and `pawl mcp` on the command line: their flags. The servers themselves are loaded when one is started.
import type { Command } from "commander";
import type { Shell } from "./shell.ts";

export function addServerCommands(program: Command, shell: Shell): void {
  program
    .command("ui")
    .description("Serve the dashboard and the HTTP interface on this machine")
    .option("--port <n>", "the port (default: 7295, or any free one when it is taken)")
    .option("--host <address>", "the address to listen on (default: 127.0.0.1)")
    .option("--allow-host <name>", "another name by which it may be called; repeatable", (name: string, before: string[] | undefined) => [...(before ?? []), name])
    .option("--read-only", "refuse everything that changes something")
    .addHelpText("after", "\nExamples:\n  pawl ui\n  pawl ui --port 0 --read-only")
    .action(async (flags: { port?: string }) => {
      const { ui } = await import("./http.ts");
      shell.exit(await ui(shell, flags));
    });
  const mcp = program
    .command("mcp")
    .description("Serve the state to a model's client (MCP), over standard input and output or HTTP")
    .option("--http", "over HTTP, on this machine")
    .option("--port <n>", "with --http: the port (default: 7296, or any free one when it is taken)")
    .option("--host <address>", "with --http: the address to listen on (default: 127.0.0.1)")
    .option("--allow-host <name>", "with --http: another name by which it may be called; repeatable", (name: string, before: string[] | undefined) => [...(before ?? []), name])
    .option("--tools <which>", "default: what a coding agent needs; all: every operation")
    .option("--caller <name>", "the name under which claims are found again (default: the client and this process)")
    .option("--allow-decisions", "let the model settle what waits for a person")
    .option("--allow-destructive", "let the model reset, remove, copy and repair")
    .addHelpText("after", "\nExamples:\n  pawl mcp\n  pawl mcp --http --port 0")
    .action(async (flags: { tools?: string }) => {
      const server = await import("./mcp.ts");
      shell.exit(await server.mcp(shell, flags));
    });
  mcp
    .command("install <client>")
    .description("Write what Claude Code needs into this folder: the server, a hook, a skill")
    .option("--yes", "without asking")
    .option("--dry-run", "show what would be written, and write nothing")
    .addHelpText("after", "\nExamples:\n  pawl mcp install claude\n  pawl mcp install claude --dry-run")
    .action(async (client: string, flags: { yes?: boolean }) => {
      const { install } = await import("./mcp-install.ts");
      await install(shell, client, flags);
    });
}
