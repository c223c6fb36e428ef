// What a tool takes: any Standard Schema that can say itself as JSON Schema (zod 4, valibot, arktype …), the AI SDK's
// `jsonSchema()`, or a plain JSON Schema. Invariant: a tool only ever runs on input its schema accepted.
import { messageOf, PawlError } from "../base/errors.ts";
import { canonical, type Json } from "../base/json.ts";
import { loadPeer } from "./peer.ts";

/** A schema as tools may bring it. */
export type ToolSchema = unknown;

export type Checked = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly why: string };
export type Schema = { readonly json: Json; check(value: Json): Promise<Checked> };

type Standard = { readonly vendor: string; validate(value: unknown): unknown; readonly jsonSchema?: { input(options: { target: string }): Json } };
type Issue = { readonly message: string; readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] };
type SdkSchema = { readonly jsonSchema: unknown; readonly validate?: (value: unknown) => unknown };

const EVERYTHING: Json = { type: "object", properties: {}, additionalProperties: true };

/** The schema of a tool, ready to show to a model and to check with. `usage` when it is none. */
export async function schemaOf(schema: ToolSchema, tool: string): Promise<Schema> {
  if (schema === undefined || schema === null) return { json: EVERYTHING, check: async (value) => ({ ok: true, value }) };
  const standard = (schema as { "~standard"?: Standard })["~standard"];
  if (standard) return standardSchema(schema, standard, tool);
  if (typeof schema === "function") return schemaOf((schema as () => unknown)(), tool);
  if (typeof schema !== "object") throw new PawlError("usage", `The schema of the tool "${tool}" is ${typeof schema}.`, { next: "Give a zod schema or a JSON Schema." });
  if ("jsonSchema" in schema) return sdkSchema(schema as SdkSchema, tool);
  return plainSchema(schema as { readonly [name: string]: Json }, tool);
}

async function standardSchema(schema: unknown, standard: Standard, tool: string): Promise<Schema> {
  const json = standard.jsonSchema ? standard.jsonSchema.input({ target: "draft-07" }) : await shownBySdk(schema, tool);
  return {
    json: canonical(json, `the schema of the tool ${tool}`),
    async check(value) {
      const result = (await standard.validate(value)) as { value?: unknown; issues?: readonly Issue[] };
      return result.issues ? { ok: false, why: result.issues.map(issueText).join("; ") } : { ok: true, value: result.value };
    },
  };
}

/** Older schema libraries cannot say themselves as JSON Schema; the SDK can, for some. */
async function shownBySdk(schema: unknown, tool: string): Promise<Json> {
  const { asSchema } = (await loadPeer("ai", `The schema of the tool "${tool}"`)) as { asSchema: (schema: unknown) => SdkSchema };
  return (await asSchema(schema).jsonSchema) as Json;
}

async function sdkSchema(schema: SdkSchema, tool: string): Promise<Schema> {
  const json = canonical(await schema.jsonSchema, `the schema of the tool ${tool}`) as { readonly [name: string]: Json };
  const { validate } = schema;
  if (!validate) return plainSchema(json, tool);
  return {
    json,
    async check(value) {
      const result = (await validate(value)) as { success: boolean; value?: unknown; error?: unknown };
      return result.success ? { ok: true, value: result.value } : { ok: false, why: messageOf(result.error) };
    },
  };
}

async function plainSchema(json: { readonly [name: string]: Json }, tool: string): Promise<Schema> {
  const { fromJSONSchema } = await import("zod");
  try {
    const { check } = await standardSchema(null, (fromJSONSchema(json as never) as unknown as { "~standard": Standard })["~standard"], tool);
    return { json, check };
  } catch (error) {
    throw new PawlError("usage", `The schema of the tool "${tool}" is no JSON Schema that can be checked: ${messageOf(error)}.`, { next: "Give a zod schema, or plainer JSON Schema.", cause: error });
  }
}

function issueText({ message, path }: Issue): string {
  const place = (path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".");
  return place === "" ? message : `${place}: ${message}`;
}
