// `pawl ui`: serves the operations and the dashboard on this machine. Invariant: nothing but the loopback is bound unless it
// is said so, and no request is answered without the token of this state.
import { createServer } from "node:http";
import { hostname } from "node:os";
import { getRequestListener } from "@hono/node-server";
import { systemClock } from "../base/clock.ts";
import { PawlError } from "../base/errors.ts";
import { codeOf } from "../base/fs.ts";
import { systemRandom } from "../base/id.ts";
import { handlesOf } from "./handles.ts";
import { httpApp } from "./http-app.ts";
import { isLoopback, type Names } from "./http-guard.ts";
import { makeLive } from "./http-live.ts";
import { WEB_FOLDER } from "./http-static.ts";
import { tokenAt, tokenPath } from "./http-token.ts";
import { sayError, type Shell } from "./shell.ts";
import { onSignals } from "./signals.ts";

/** P A W L on the keys of a telephone. */
export const UI_PORT = 7295;

/** What a client may take to send a request, in ms, and how many may be connected: a slow or forgotten one holds nothing for long. */
const SERVER = { headersTimeout: 10_000, requestTimeout: 30_000, keepAliveTimeout: 5_000, connectionsCheckingInterval: 5_000 };
const CONNECTIONS = 256;
/** How long a request that has begun may still take when the server stops. */
const GRACE_MS = 500;
/** How long answers that are under way are waited for at the end. */
const LAST_ANSWERS_MS = 1_000;

export type Fetch = (request: Request) => Response | Promise<Response>;
export type Listening = { readonly port: number; readonly close: () => Promise<void> };

type UiFlags = { readonly port?: string; readonly host?: string; readonly allowHost?: readonly string[]; readonly readOnly?: boolean };

/** Runs the server until a signal; returns the exit code. */
export async function ui(shell: Shell, flags: UiFlags): Promise<number> {
  const { io } = shell;
  const host = flags.host ?? "127.0.0.1";
  const token = tokenAt(tokenPath(shell.location(), io.env));
  const handles = handlesOf(shell);
  const live = makeLive(handles, systemClock, systemRandom.hex(4));
  const failed = (error: PawlError) => void sayError(io, false, error);
  const listening = await listen(host, portOf(flags.port), flags.port === undefined, (port) =>
    httpApp({ handles, live, clock: systemClock, token, names: namesOf(host, port, flags.allowHost), readOnly: flags.readOnly === true, root: io.cwd, web: WEB_FOLDER, failed }).fetch,
  );
  const stop = stopped(shell);
  const shown = isLoopback(host) || host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host.includes(":") ? `[${host}]` : host;
  const url = `http://${shown}:${listening.port}/`;
  if (shell.globals().json) io.out(`${JSON.stringify({ schema_version: 1, kind: "ui", data: { url, token_file: tokenPath(shell.location(), io.env), state: shell.location() } })}\n`);
  else io.out(`Dashboard of ${shell.location()}: ${url}#token=${token}\n`);
  if (!isLoopback(host)) shell.notice(`It listens on ${host}: whoever reaches it and has the token can change this state, and nothing is encrypted.`);
  io.err("Ctrl-C stops it.\n");
  await stop;
  live.close();
  await listening.close();
  await handles.close();
  return 0;
}

/** By which names the server is reached when it listens on `host`. */
export function namesOf(host: string, port: number, more: readonly string[] = []): Names {
  const open = !isLoopback(host);
  const own = open ? [hostname().toLowerCase(), ...(host.includes(":") ? [] : [host.toLowerCase()])] : [];
  return { port, open, hosts: [...own, ...more.map((name) => name.toLowerCase())] };
}

export function portOf(text: string | undefined): number {
  if (text === undefined) return UI_PORT;
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port <= 65_535)) throw new PawlError("usage", `The port must be a number from 0 to 65535, not ${JSON.stringify(text.slice(0, 40))}.`, { next: "Leave it out, or use 0 for any free one." });
  return port;
}

/** Listens; with `otherwise`, on any free port when this one is taken. The handler is made once the port is known. */
export async function listen(host: string, port: number, otherwise: boolean, handlerAt: (port: number) => Fetch): Promise<Listening> {
  let handler: Fetch | null = null;
  const server = createServer(SERVER, getRequestListener((request) => handler!(request), { overrideGlobalObjects: false }));
  server.maxConnections = CONNECTIONS;
  const bound = await new Promise<boolean>((resolve, reject) => {
    server.once("error", (error) => (otherwise && codeOf(error) === "EADDRINUSE" ? resolve(false) : reject(cannotListen(host, port, error))));
    server.listen(port, host, () => resolve(true));
  });
  if (!bound) return listen(host, 0, false, handlerAt);
  const address = server.address() as { readonly port: number };
  handler = handlerAt(address.port);
  return {
    port: address.port,
    close: () =>
      new Promise((resolve) => {
        // What is being answered may come to its end; what only waits is cut off.
        const cut = systemClock.timer(LAST_ANSWERS_MS, () => server.closeAllConnections());
        server.close(() => {
          cut();
          resolve();
        });
        server.closeIdleConnections();
        // A page that is open asks again on the connection it has, for ever.
        systemClock.timer(GRACE_MS, () => server.closeAllConnections());
      }),
  };
}

function cannotListen(host: string, port: number, error: Error): PawlError {
  const why = { EADDRINUSE: "the port is taken", EACCES: "the port is reserved", EADDRNOTAVAIL: "this machine has no such address", ENOTFOUND: "there is no such host" }[codeOf(error) ?? ""] ?? error.message;
  return new PawlError("usage", `Cannot listen on ${host}:${port}: ${why}.`, { next: "Use another: --port 0 takes any free one.", cause: error });
}

/** Resolves with the first signal. */
export function stopped(shell: Shell): Promise<void> {
  return new Promise((resolve) => {
    const signals = onSignals(shell.io, () => {
      signals.off();
      resolve();
    });
  });
}
