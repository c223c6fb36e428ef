// What an operation gave, as the one JSON document that every door prints: {schema_version, kind, data} and, for a list that
// was cut, where it goes on. Invariant: the same call gives the same document through every door.
import { isPawlError, messageOf, PawlError } from "../base/errors.ts";
import type { Operation } from "../operations.ts";

export type Document = { readonly schema_version: 1; readonly kind: string; readonly data: unknown; readonly [beside: string]: unknown };

/** Lists are arrays of records; what there is to say about a list stands beside it. */
export function documentOf({ output, page }: Operation, input: { readonly [name: string]: unknown }, data: unknown): Document {
  const document = { schema_version: 1, kind: output } as const;
  if (output === "history") {
    const { transitions, broken_at } = data as { transitions: unknown; broken_at: unknown };
    return { ...document, data: transitions, broken_at };
  }
  if (page === undefined || !Array.isArray(data) || data.length === 0 || data.length < limitOf(page, input)) return { ...document, data };
  return { ...document, data, after: (data as readonly { readonly [field: string]: unknown }[]).at(-1)![page.by] };
}

/** How many records a page of this call holds at most. */
export function limitOf(page: { readonly limit: number }, input: { readonly [name: string]: unknown }): number {
  return Number(input["limit"] ?? page.limit);
}

/** Anything thrown as an error of ours: what is none is a bug. */
export function pawlErrorOf(thrown: unknown): PawlError {
  return isPawlError(thrown) ? thrown : new PawlError("internal", messageOf(thrown), { next: "This is a bug in Pawl; please report it with this text.", cause: thrown });
}

/** What went wrong, as the document of an error. */
export function errorDocument({ code, message, next, details }: PawlError): Document {
  return { schema_version: 1, kind: "error", data: { code, message, next: next ?? null, details: details ?? null } };
}
