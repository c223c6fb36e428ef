// Reads a task list from a file or standard input and makes its batch agree with it. The identity of a list is its real
// path: the same file is the same batch (with `fresh`, a new one); another file beside an unfinished batch must be asked for.
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, sep } from "node:path";
import { messageOf, PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { batchOf, checkLinks, createBatch, importEntries, isUnfinished, listBatches, updateBatch, type ImportReport, type ItemDefaults } from "../core/batches.ts";
import type { Committer } from "../core/committer.ts";
import type { ListEntry } from "../core/list-entry.ts";
import { applyVars, decodeText, parseTaskList, type ListFormat } from "../core/task-list.ts";
import type { Batch } from "../core/records.ts";

export type ImportOptions = {
  readonly format?: ListFormat;
  /** NAME=VALUE for {{NAME}} in the list. The batch remembers them for its next import. */
  readonly vars?: readonly string[];
  /** The list, when it is read already. */
  readonly entries?: readonly ListEntry[];
  /** A new batch, even of the same list or beside an unfinished one. */
  readonly fresh?: boolean;
  /** Refuse another list while a batch is unfinished. */
  readonly alone?: boolean;
  readonly defaults?: ItemDefaults;
  readonly batch?: { readonly executor?: Json; readonly verifier?: Json; readonly limits?: Json };
};

/** Values for {{NAME}}. */
export type Vars = { readonly [name: string]: string };

export type ImportedList = { readonly batch: Batch; readonly report: ImportReport; readonly created: boolean };

/** A list larger than this is not a task list; reading it would only fill the memory. */
const MAX_BYTES = 256 << 20;

export async function importFile(committer: Committer, file: string, options: ImportOptions, actor: string): Promise<ImportedList> {
  const source = file === "-" ? null : realPath(file);
  const known = options.fresh || source === null ? null : await batchOf(committer, source);
  const vars = { ...rememberedVars(known), ...readVars(options.vars ?? []) };
  const entries = options.entries ?? readList(file, { ...(options.format === undefined ? {} : { format: options.format }), vars });
  await checkLinks(committer, entries, file);
  if (!known && !options.fresh && options.alone) await refuseSecond(committer, file, source);
  const batch = known ?? (await createBatch(committer, { source, ...options.batch }));
  const report = await importEntries(committer, batch, entries, file, options.defaults ?? {}, actor);
  return { batch: await keepVars(committer, batch, vars), report, created: known === null };
}

/** What `--var` gave the list of this batch. */
export function rememberedVars(batch: Batch | null): Vars {
  return ((batch?.limits ?? {}) as { vars?: Vars }).vars ?? {};
}

/** Without them the next run of the list would not know its lines again. */
async function keepVars(committer: Committer, batch: Batch, vars: Vars): Promise<Batch> {
  if (JSON.stringify(vars) === JSON.stringify(rememberedVars(batch))) return batch;
  return updateBatch(committer, batch.id, { limits: { ...(batch.limits as { [limit: string]: Json } | null), vars } });
}

/** The entries of a list, its variables filled in. Reads the file (standard input can be read only once); changes nothing. */
export function readList(file: string, options: { readonly format?: ListFormat; readonly vars: Vars }): ListEntry[] {
  const text = applyVars(decodeText(readBytes(file), file), options.vars, file);
  const { entries } = parseTaskList(text, options.format, file);
  if (entries.length === 0) throw new PawlError("usage", `${file === "-" ? "Standard input" : file} holds no task.`, { next: "Write one task a line." });
  return entries;
}

export function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch (error) {
    throw unreadable(file, error);
  }
}

function readBytes(file: string): Uint8Array {
  try {
    if (file === "-") return readFileSync(0);
    const stat = statSync(file);
    if (!stat.isFile()) throw new PawlError("usage", `${file} is ${stat.isDirectory() ? "a folder" : "not a regular file"}, not a task list.`, { next: "Give a file with one task a line." });
    if (stat.size > MAX_BYTES) throw new PawlError("usage", `${file} has ${stat.size} bytes; a task list may have ${MAX_BYTES}.`, { next: "Split it." });
    return readFileSync(file);
  } catch (error) {
    throw unreadable(file, error);
  }
}

function unreadable(file: string, error: unknown): unknown {
  if (error instanceof PawlError) return error;
  const missing = (error as { code?: string }).code === "ENOENT";
  return new PawlError(missing ? "not_found" : "usage", missing ? `There is no file ${file}.` : `${file} cannot be read: ${messageOf(error)}.`, {
    next: missing ? `Make it first, one task a line: echo "Write a haiku" > ${basename(file)}` : "Check its permissions.",
  });
}

/** NAME=VALUE, as `--var` has them. */
export function readVars(vars: readonly string[]): Vars {
  return Object.fromEntries(
    vars.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw new PawlError("usage", `--var needs NAME=VALUE, not "${text}".`, { next: "As in: --var CITY=Oslo." });
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

async function refuseSecond(committer: Committer, file: string, source: string | null): Promise<void> {
  for (const batch of await listBatches(committer, 20)) {
    if (source !== null && batch.source !== null && isMoved(batch.source, source, committer.store.location)) {
      throw new PawlError("conflict", `${batch.id} was made from ${batch.source}, which is gone: ${file} may be that list, moved.`, {
        next: `Go on with it: pawl run --resume ${batch.id}. If this is another list: pawl run ${file} --new.`,
        details: { batch: batch.id },
      });
    }
    if (!(await isUnfinished(committer, batch.id))) continue;
    throw new PawlError("conflict", `${batch.id}${batch.source ? ` (${batch.source})` : ""} is not finished.`, {
      next: `Go on with it: pawl run --resume ${batch.id}. Or start ${file} beside it: pawl run ${file} --new.`,
      details: { batch: batch.id },
    });
  }
}

/**
 * Whether a list may be an earlier one, moved with its project: taken for a new one, everything in it would be done again. Lists
 * that are made anew each time in some folder for temporary files are none.
 */
function isMoved(earlier: string, source: string, state: string): boolean {
  const project = dirname(state).replace(/[\\/]\.pawl$/, "");
  return basename(earlier) === basename(source) && isAbsolute(state) && source.startsWith(`${project}${sep}`) && !existsSync(earlier);
}
