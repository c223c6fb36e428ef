// The four doors to one state, in this process and without ports: the library's table, the command line, HTTP and MCP. Each
// call gives the document that the door printed, or what it said of a failure.
import { cpSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { InMemoryTransport } from "@modelcontextprotocol/server";
import { systemClock } from "../../src/base/clock.ts";
import { wireName } from "../../src/base/params.ts";
import { OPERATIONS, type Operation } from "../../src/operations.ts";
import { main } from "../../src/surface/cli.ts";
import { documentOf, errorDocument, pawlErrorOf, type Document } from "../../src/surface/document.ts";
import { handlesOf, type Handles } from "../../src/surface/handles.ts";
import { httpApp } from "../../src/surface/http-app.ts";
import { makeLive } from "../../src/surface/http-live.ts";
import type { Io } from "../../src/surface/io.ts";
import { mcpServer, type McpOptions } from "../../src/surface/mcp-server.ts";
import { shellOf } from "../../src/surface/shell.ts";
import { openState } from "../../src/state.ts";

export type Input = { readonly [name: string]: unknown };
/** What a door gave: a document, whose kind is "error" when it failed. For MCP the text of the answer. */
export type Door = (operation: Operation, input: Input) => Promise<Document | string>;

export const TOKEN = "ab".repeat(32);
export const ACTOR = "tester";

export const operationNamed = (name: string): Operation => OPERATIONS.find((operation) => operation.name === name)!;

/** A folder that is a copy of `seed`, and goes when `use` has ended. */
export async function inCopy<T>(seed: string, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "pawl-doors-")));
  cpSync(seed, folder, { recursive: true });
  return use(folder).finally(() => rmSync(folder, { recursive: true, force: true }));
}

export function ioIn(folder: string, more: Partial<Io> = {}): Io {
  return { out() {}, err() {}, stdin: async () => new Uint8Array(), tty: false, color: false, errColor: false, columns: 100, env: { PAWL_ACTOR: ACTOR, PAWL_STATE: join(folder, "state.json") }, cwd: folder, ...more };
}

export const handlesIn = (folder: string, more: Partial<Io> = {}): Handles => handlesOf(shellOf(ioIn(folder, more), () => ({ json: false }), () => undefined));

const failed = (error: unknown): Document => errorDocument(pawlErrorOf(error));

/** Input as a command line has it: arguments first, then flags. */
export function lineOf({ command, params }: Operation, input: Input): string[] {
  const [words, flags] = [[] as string[], [] as string[]];
  for (const [name, value] of Object.entries(input)) {
    const [declared, param] = Object.entries(params).find(([of, candidate]) => wireName(of, candidate) === name || of === name)!;
    const text = (one: unknown) => (typeof one === "string" && param.type !== "json" ? one : param.type === "duration" ? `${one as number}ms` : JSON.stringify(one));
    if (param.arg) words.push(param.type === "json" && typeof value === "string" && param.plain ? value : text(value));
    else if (param.type === "boolean") flags.push(`--${declared}`);
    else for (const one of Array.isArray(value) && param.type !== "json" ? value : [value]) flags.push(`--${declared}${param.plain ? "-json" : ""}`, param.plain ? JSON.stringify(one) : text(one));
  }
  return [...command.split(" "), ...flags, "--", ...words];
}

export const DOORS: { readonly [door: string]: (folder: string) => Promise<{ readonly call: Door; readonly close: () => Promise<void> }> } = {
  async library(folder) {
    const state = await openState(join(folder, "state.json"), { actor: ACTOR, notice: () => undefined });
    return { call: async (operation, input) => operation.run(state, input).then((data) => documentOf(operation, input, data), failed), close: () => state.close() };
  },
  async "command line"(folder) {
    const call: Door = async (operation, input) => {
      let [out, err] = ["", ""];
      await main([...lineOf(operation, input).flatMap((word) => (word === "--" ? ["--json", "--"] : [word]))], ioIn(folder, { out: (text) => void (out += text), err: (text) => void (err += text) }));
      return JSON.parse(out === "" ? err.trim().split("\n").at(-1)! : out) as Document;
    };
    return { call, close: async () => undefined };
  },
  async HTTP(folder) {
    const handles = handlesIn(folder);
    const live = makeLive(handles, systemClock, "0000");
    const app = httpApp({ handles, live, clock: systemClock, token: TOKEN, names: { port: 80, hosts: [], open: false }, readOnly: false, root: folder, web: null });
    const call: Door = async ({ name }, input) => {
      const response = await app.request(`http://localhost/api/${name}`, { method: "POST", headers: { host: "localhost", authorization: `Bearer ${TOKEN}`, "content-type": "application/json" }, body: JSON.stringify(input) });
      return (await response.json()) as Document;
    };
    return { call, close: async () => (live.close(), handles.close()) };
  },
  async MCP(folder) {
    const handles = handlesIn(folder);
    const { client, close } = await mcpClient(handles, folder);
    const call: Door = async ({ name }, input) => {
      const result = await client.callTool({ name, arguments: { ...input } });
      return (result.content as { text: string }[])[0]!.text;
    };
    return { call, close: async () => (await close(), handles.close()) };
  },
};

/** A client at a server of its own; without `options` with every tool there is. */
export async function mcpClient(handles: Handles, root: string, options: Partial<McpOptions> & { readonly name?: string } = {}): Promise<{ readonly client: Client; readonly close: () => Promise<void> }> {
  const server = mcpServer({ handles, clock: systemClock, version: "0", root, actor: ACTOR, callerOf: () => null, all: true, allowDecisions: true, allowDestructive: true, ...options });
  const client = new Client({ name: options.name ?? "tester", version: "0" });
  const [ours, theirs] = InMemoryTransport.createLinkedPair();
  await Promise.all([server.connect(theirs), client.connect(ours)]);
  return { client, close: () => client.close() };
}
