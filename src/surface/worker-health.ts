// The health of a worker process over HTTP, for a supervisor or a load balancer: GET / or /ready says whether it takes work,
// /live whether it answers at all. Loopback unless told otherwise; it tells numbers and times only, and takes nothing.
import { chmodSync, rmSync, statSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { iso, parseIso, type Clock } from "../base/clock.ts";
import { messageOf, PawlError } from "../base/errors.ts";
import { redactText } from "../base/redact.ts";
import { nextDue } from "../core/claim.ts";
import type { State } from "../state.ts";
import type { Worker } from "../worker/worker.ts";

/** One queue's worker, as the health page sees it. */
export type Watched = { readonly queue: string; readonly worker: Worker; readonly concurrency: number; lastClaimAt: number | null };

export type Health = {
  readonly live: true;
  /** It takes tasks: not told to stop, and the state can be read. */
  readonly ready: boolean;
  readonly draining: boolean;
  /** "ok", or what came of reading it. */
  readonly store: string;
  readonly running: number;
  readonly last_claim_at: string | null;
  /** How long the longest-due first task of a queue has been due. */
  readonly lag_ms: number;
  readonly queues: { readonly [queue: string]: { readonly running: number; readonly concurrency: number; readonly last_claim_at: string | null; readonly lag_ms: number } };
};

/** How long the state may take to be read before it counts as out of reach, in ms. */
const READ_MS = 2_000;

export async function healthOf(state: State, watched: readonly Watched[]): Promise<Health> {
  const { clock } = state;
  const store = await reading(clock, () => Promise.all(watched.map(({ queue }) => nextDue(state.committer, { queue, batch_id: null }))));
  const now = state.committer.store.clock.now();
  const draining = watched.some(({ worker }) => !worker.claiming);
  const queues = watched.map(({ queue, worker, concurrency, lastClaimAt }, i) => {
    const first = "value" in store ? store.value[i]![0] : undefined;
    return [queue, { running: worker.active.length, concurrency, last_claim_at: lastClaimAt === null ? null : iso(lastClaimAt), lag_ms: first ? Math.max(0, now - parseIso(first.updated_at)) : 0 }] as const;
  });
  const last = Math.max(...watched.map(({ lastClaimAt }) => lastClaimAt ?? -Infinity));
  return {
    live: true, ready: !draining && "value" in store, draining, store: "value" in store ? "ok" : store.problem, running: queues.reduce((sum, [, { running }]) => sum + running, 0),
    last_claim_at: last === -Infinity ? null : iso(last), lag_ms: Math.max(0, ...queues.map(([, { lag_ms }]) => lag_ms)), queues: Object.fromEntries(queues),
  };
}

async function reading<T>(clock: Clock, read: () => Promise<T>): Promise<{ readonly value: T } | { readonly problem: string }> {
  return new Promise((resolve) => {
    const cancel = clock.timer(READ_MS, () => resolve({ problem: `no answer within ${READ_MS} ms` }), false);
    read()
      .then((value) => resolve({ value }), (error: unknown) => resolve({ problem: redactText(messageOf(error)).slice(0, 200) }))
      .finally(cancel);
  });
}

/** Where a health page listens: a port, host:port, or the path of a socket (anything with a slash). */
export type Address = { readonly port: number; readonly host: string } | { readonly path: string };

export function readAddress(text: string): Address {
  if (text.includes("/")) return { path: text };
  const match = /^(?:(.+):)?([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65_535) throw new PawlError("usage", `--health takes a port, HOST:PORT or the path of a socket, not "${text}".`, { next: "As in: --health 8787, --health 0.0.0.0:8787, --health /run/pawl/health.sock." });
  return { port, host: match[1]?.replace(/^\[(.*)\]$/, "$1") ?? "127.0.0.1" };
}

/** Listens; returns where, and what ends it. Throws `usage` when the address is taken or not ours. */
export async function serveHealth(address: Address, health: () => Promise<Health>): Promise<{ readonly where: string; close(): Promise<void> }> {
  if ("path" in address) await removeStale(address.path);
  const server = createServer((request, response) => {
    request.resume();
    const path = (request.url ?? "/").replace(/\?.*$/, "");
    if (request.method !== "GET" && request.method !== "HEAD") return answer(response, 405, { error: "only GET" });
    if (path === "/live") return answer(response, 200, { live: true });
    if (path !== "/" && path !== "/ready") return answer(response, 404, { error: "only /, /ready and /live" });
    health().then((said) => answer(response, said.ready ? 200 : 503, said), (error: unknown) => answer(response, 503, { live: true, ready: false, store: redactText(messageOf(error)) }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(new PawlError("usage", `The health page cannot listen: ${messageOf(error)}.`, { next: "Name another address: --health PORT.", cause: error })));
    server.listen(address, resolve);
  });
  if ("path" in address) chmodSync(address.path, 0o600);
  const bound = server.address();
  const where = typeof bound === "object" && bound !== null ? `http://${bound.family === "IPv6" ? `[${bound.address}]` : bound.address}:${bound.port}/` : (address as { path: string }).path;
  return { where, close: () => closed(server) };
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", connection: "close" }).end(`${JSON.stringify(body)}\n`);
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** A socket whose process is gone stays as a file; one that answers is somebody's. */
async function removeStale(path: string): Promise<void> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isSocket()) throw new PawlError("usage", `${path} is there and is not a socket.`, { next: "Name another path: --health PATH." });
  const answered = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => resolve(true)).once("error", () => resolve(false));
    socket.once("close", () => undefined).unref();
    socket.once("connect", () => socket.destroy());
  });
  if (answered) throw new PawlError("usage", `Another process listens at ${path}.`, { next: "Name another path: --health PATH." });
  rmSync(path, { force: true });
}
