// `pawl mcp`: serves the state to a model's client, over standard input and output or over HTTP. Invariant: standard output
// carries nothing but the protocol, and over HTTP no request is answered without the token.
import { createMcpHandler, type McpServerFactory, type Server } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { Hono } from "hono";
import { systemClock } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { systemRandom } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { handlesOf, type Handles } from "./handles.ts";
import { guarded, refuse } from "./http-app.ts";
import { listen, namesOf, portOf, stopped } from "./http.ts";
import { isLoopback } from "./http-guard.ts";
import { makeLive, type Live } from "./http-live.ts";
import { tokenAt, tokenPath } from "./http-token.ts";
import { changing } from "./mcp-resources.ts";
import { mcpServer, type McpOptions } from "./mcp-server.ts";
import { lineOf, sayError, version, type Shell } from "./shell.ts";

/** One above the dashboard's. */
export const MCP_PORT = 7296;

export type McpFlags = {
  readonly http?: boolean;
  readonly port?: string;
  readonly host?: string;
  readonly allowHost?: readonly string[];
  readonly tools?: string;
  readonly caller?: string;
  readonly allowDecisions?: boolean;
  readonly allowDestructive?: boolean;
};

/** Serves until the client goes or a signal comes; returns the exit code. */
export async function mcp(shell: Shell, flags: McpFlags): Promise<number> {
  if (flags.tools !== undefined && !["default", "all"].includes(flags.tools)) throw new PawlError("usage", `--tools is default or all, not ${JSON.stringify(flags.tools.slice(0, 40))}.`);
  if (!flags.http && (flags.port !== undefined || flags.host !== undefined || flags.allowHost !== undefined)) throw new PawlError("usage", "--port, --host and --allow-host are for --http.", { next: "pawl mcp --http --port 0" });
  const handles = handlesOf(shell);
  const live = makeLive(handles, systemClock, systemRandom.hex(4));
  try {
    await (flags.http ? overHttp(shell, flags, handles, live) : overStdio(shell, flags, handles, live));
    return 0;
  } finally {
    live.close();
    await handles.close();
  }
}

function optionsOf(shell: Shell, flags: McpFlags, handles: Handles): Omit<McpOptions, "callerOf"> {
  return {
    handles, clock: systemClock, version: version(), root: shell.io.cwd, actor: shell.globals().actor || null,
    all: flags.tools === "all", allowDecisions: flags.allowDecisions === true, allowDestructive: flags.allowDestructive === true,
    failed: (error) => void sayError(shell.io, false, error),
  };
}

/** One client for the life of the process: what it claims is its own under the client's name and this process. */
async function overStdio(shell: Shell, flags: McpFlags, handles: Handles, live: Live): Promise<void> {
  const session = systemRandom.hex(4);
  const connection = new Set<Server>();
  const watched = new Set<string>();
  let unwatch: (() => void) | null = null;
  const tell = (modern: boolean, server: Server) => {
    for (const uri of changing()) if (modern || watched.has(uri)) void server.sendResourceUpdated({ uri }).catch(() => undefined);
  };
  const factory: McpServerFactory = ({ era }) => {
    const watch = () => (unwatch ??= live.watch(() => connection.forEach((server) => tell(era === "modern", server))));
    const server = mcpServer({
      ...optionsOf(shell, flags, handles),
      callerOf: (client) => flags.caller ?? `${client}-${session}`.slice(-64),
      subscribed(uri, on) {
        on ? watched.add(uri) : watched.delete(uri);
        watch();
      },
    });
    // Clients of the newer era subscribe past the server: it tells them all there is, and what they did not ask for is dropped.
    if (era === "modern") watch();
    connection.add(server);
    return server;
  };
  const handle = serveStdio(factory, { onerror: (error) => shell.io.err(`pawl mcp: ${error.message}\n`) });
  const gone = new Promise<void>((resolve) => void process.stdin.once("end", resolve).once("close", resolve).once("error", () => resolve()));
  await Promise.race([gone, stopped(shell)]);
  await handle.close();
}

/** Many clients, each request by itself: what is claimed is found again under the name that the call gives. */
async function overHttp(shell: Shell, flags: McpFlags, handles: Handles, live: Live): Promise<void> {
  const { io } = shell;
  const host = flags.host ?? "127.0.0.1";
  const path = tokenPath(shell.location(), io.env);
  const token = tokenAt(path);
  const handler = createMcpHandler(() => mcpServer({ ...optionsOf(shell, flags, handles), callerOf: () => flags.caller ?? null }), {
    maxRequestBodySize: LIMITS.requestBytes, maxSubscriptions: LIMITS.liveReaders, onerror: (error) => io.err(`pawl mcp: ${error.message}\n`),
  });
  const listening = await listen(host, flags.port === undefined ? MCP_PORT : portOf(flags.port), flags.port === undefined, (port) => {
    const app = new Hono();
    app.use("*", guarded({ names: namesOf(host, port, flags.allowHost), token, clock: systemClock, guards: () => true }));
    app.all("/mcp", (c) => handler.fetch(c.req.raw));
    app.notFound((c) => refuse(c, { status: 404, message: `There is no ${c.req.method} ${c.req.path}.`, next: "The server speaks MCP at /mcp." }));
    return app.fetch;
  });
  const stop = stopped(shell);
  const unwatch = live.watch(() => changing().forEach((uri) => handler.notify.resourceUpdated(uri)));
  const url = `http://${isLoopback(host) && !host.includes(":") ? host : isLoopback(host) ? "[::1]" : "127.0.0.1"}:${listening.port}/mcp`;
  if (shell.globals().json) io.out(lineOf({ schema_version: 1, kind: "mcp", data: { url, token_file: path, state: shell.location() } }));
  else io.out(`MCP server of ${shell.location()}: ${url}\nIts token (Authorization: Bearer …) is in ${path}\n`);
  if (!isLoopback(host)) shell.notice(`It listens on ${host}: whoever reaches it and has the token can change this state, and nothing is encrypted.`);
  await stop;
  unwatch();
  await handler.close();
  await listening.close();
}
