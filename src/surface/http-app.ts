// The HTTP door: every operation under /api/NAME, live changes under /api/events, the dashboard's files beside them. It checks
// who asks, turns JSON or a query into an input and prints what comes back; it decides nothing.
import { Hono, type Context } from "hono";
import type { Clock } from "../base/clock.ts";
import { ERROR_CODES, isPawlError, PawlError } from "../base/errors.ts";
import { parseStrict, textOf } from "../base/json-text.ts";
import { LIMITS } from "../base/limits.ts";
import { inputSchema } from "../base/params-schema.ts";
import { wireName, type Params } from "../base/params.ts";
import { operationOfName, OPERATIONS, type Operation } from "../operations.ts";
import { OUTPUTS } from "../operations/outputs.ts";
import { errorDocument, pawlErrorOf } from "./document.ts";
import { errorInWords, routeWords } from "./door-words.ts";
import { perform, type Handles } from "./handles.ts";
import { checkBody, checkSender, checkToken, makeGauge, SECURITY_HEADERS, tooLarge, tooMany, type Names, type Refusal } from "./http-guard.ts";
import type { Live } from "./http-live.ts";
import { staticFile } from "./http-static.ts";
import { confinePaths } from "./paths.ts";

export type AppOptions = {
  readonly handles: Handles;
  readonly live: Live;
  readonly clock: Clock;
  readonly token: string;
  readonly names: Names;
  /** Refuses every operation that writes. */
  readonly readOnly: boolean;
  /** The folder in which paths that come in a request must lie. */
  readonly root: string;
  /** The folder of the dashboard's files; null serves none. */
  readonly web: string | null;
  /** Told what is a bug or broken storage, for the log. */
  readonly failed?: (error: PawlError) => void;
};

type Answer = Response | Promise<Response>;

export function httpApp(options: AppOptions): Hono {
  const app = new Hono();
  app.use("*", guarded({ ...options, guards: (path) => path === "/api" || path.startsWith("/api/") }));
  app.onError((thrown, c) => failure(c, thrown, options));
  app.get("/api", (c) => c.json({ schema_version: 1, kind: "operation-list", data: OPERATIONS.map(described) }));
  app.get("/api/events", (c) => events(c, options));
  app.get("/api/:name", (c) => called(c, options, async () => queryInput(c, operationOf(c))));
  app.post("/api/:name", (c) => called(c, options, () => bodyInput(c)));
  app.get("*", async (c) => {
    if (options.web === null || c.req.path.startsWith("/api/")) return c.notFound();
    const file = await staticFile(options.web, c.req.path);
    return c.body(file.body as string, file.status, { "content-type": file.type, "cache-control": file.cache });
  });
  app.notFound((c) => refuse(c, { status: 405, message: `There is no ${c.req.method} ${c.req.path}.`, next: "See what there is: GET /api." }));
  return app;
}

/** Everything that is checked before anything is looked up, and what is said on every answer. */
export function guarded({ names, token, clock, guards }: Pick<AppOptions, "names" | "token" | "clock"> & { /** Which paths need the token. */ readonly guards: (path: string) => boolean }) {
  const [known, stranger] = [makeGauge(clock, LIMITS.requestsPerSecond, LIMITS.requestsPerSecond * 2), makeGauge(clock, 5, 20)];
  return async (c: Context, next: () => Promise<void>): Promise<Response | void> => {
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) c.header(name, value);
    const sender = checkSender(names, c.req.raw.headers);
    if (sender) return refuse(c, sender);
    if (guards(c.req.path)) {
      c.header("cache-control", "no-store");
      const refusal = checkToken(token, c.req.header("authorization"));
      if (refusal) return refuse(c, stranger() ? refusal : tooMany());
    }
    if (!known()) return refuse(c, tooMany());
    await next();
  };
}

/** An answer to a request that never comes to an operation. */
export function refuse(c: Context, { status, message, next }: Refusal): Response {
  if (status === 401) c.header("www-authenticate", 'Bearer realm="pawl"');
  if (status === 429) c.header("retry-after", "1");
  return c.json(errorDocument(new PawlError(status === 429 ? "busy" : "usage", message, { next })), status);
}

function failure(c: Context, thrown: unknown, { failed }: AppOptions): Response {
  const error = pawlErrorOf(thrown);
  const { http } = ERROR_CODES[error.code];
  if (http >= 500) failed?.(error);
  return c.json(errorDocument(errorInWords(error, routeWords, operationOfName(c.req.param("name")))), http);
}

/** What GET /api says of an operation. */
function described({ name, summary, effect, params, output }: Operation): object {
  return { name, summary, effect, input: inputSchema(params), output: { kind: output, schema: OUTPUTS[output] ?? {} } };
}

function operationOf(c: Context): Operation {
  const name = c.req.param("name");
  const operation = operationOfName(name);
  if (!operation) throw new PawlError("not_found", `There is no operation ${JSON.stringify(String(name).slice(0, 80))}.`, { next: "See what there is: GET /api." });
  return operation;
}

async function called(c: Context, { handles, readOnly, root }: AppOptions, input: () => Promise<Input>): Promise<Response> {
  const operation = operationOf(c);
  if (c.req.method === "GET" && operation.effect !== "read") {
    c.header("allow", "POST");
    return refuse(c, { status: 405, message: `${operation.name} changes something.`, next: `POST /api/${operation.name}` });
  }
  if (readOnly && operation.effect !== "read") return refuse(c, { status: 403, message: "This server only reads.", next: "Start it without --read-only." });
  const refusal = c.req.method === "POST" ? checkBody(c.req.raw.headers) : null;
  if (refusal) return refuse(c, refusal);
  const given = await input();
  if (given === "too large") return refuse(c, tooLarge());
  return c.json(await perform(handles, operation, confinePaths(operation.params, given, root), { signal: c.req.raw.signal }));
}

type Input = { readonly [name: string]: unknown } | "too large";

/** The body as an object; an empty one has nothing in it. */
async function bodyInput(c: Context): Promise<Input> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    if ((bytes += chunk.length) > LIMITS.requestBytes) return "too large";
    chunks.push(chunk);
  }
  const text = textOf(Buffer.concat(chunks), "body", "value_refused");
  return text.trim() === "" ? {} : objectOf(text);
}

function objectOf(text: string): { readonly [name: string]: unknown } {
  try {
    const { value } = parseStrict(text, "body");
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as { readonly [name: string]: unknown };
  } catch (error) {
    if (!isPawlError(error, "corrupt")) throw error;
    throw new PawlError("usage", error.message, { next: "Send one JSON object.", details: error.details ?? {} });
  }
  throw new PawlError("usage", "The body is not a JSON object.", { next: "Send one JSON object: the input of the operation." });
}

/** The query of a read: texts, with "true" and "false" for booleans and JSON where the parameter takes it. */
async function queryInput(c: Context, { params }: Operation): Promise<Input> {
  const input: { [name: string]: unknown } = Object.create(null);
  for (const [name, values] of Object.entries(c.req.queries())) input[name] = queryValue(params, name, values);
  return input;
}

function queryValue(params: Params, name: string, values: readonly string[]): unknown {
  const param = Object.entries(params).find(([declared, candidate]) => declared === name || wireName(declared, candidate) === name)?.[1];
  const value = values.at(-1)!;
  if (param?.type === "boolean") return value === "true" || value === "" ? true : value === "false" ? false : value;
  if (param?.type === "json") return objectOf(`{"value":${value}}`)["value"];
  return param?.type === "texts" || param?.type === "refs" ? values : value;
}

function events(c: Context, { live }: AppOptions): Answer {
  const stream = live.stream(c.req.header("last-event-id") ?? c.req.query("last_id") ?? null, c.req.raw.signal);
  if (stream === null) return refuse(c, tooMany());
  return c.body(stream, 200, { "content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no" });
}
