// What earlier edits of the same view have said already. A person saves twice from one buffer, a script writes twice what it
// read once: the second file holds the first edit too. Invariant: what was said of a view, merged or refused, is not done,
// added or refused once more when a later edit of that view repeats it.
import { sha256, sortedText, type Json } from "../base/json.ts";
import type { Reads, Rec } from "../store/store.ts";

export type Said = {
  /** What this edit says that was not said before, for its record. */
  readonly list: readonly string[];
  /** True when the last edit that spoke of this place (`task 3.status`) said the same. Else it is noted as said now. */
  again(place: string, value: Json): boolean;
  /** True when some earlier edit said this: what is there now is that edit's doing, and no change behind the person's back. */
  said(place: string, value: Json): boolean;
  /** The id under which this very entry was added before (null: it was refused); undefined when it was not. Each counts once. */
  addedBefore(entry: { readonly [field: string]: Json }): number | null | undefined;
  /** The id of the entry that was added before with this number of its own. */
  numbered(written: Json): number | undefined;
  /** Notes an added entry, with its id unless it was refused. */
  added(entry: { readonly [field: string]: Json }, id: number | null): void;
};

/** How many edits back a file without header may repeat what it added. */
const HEADLESS_BACK = 500;

/**
 * Reads the records of earlier edits of the view `revision`; of a file without header, which may be of any view, also what
 * the last edits added. `ids` are those that the file has from its view: an added task that it shows by its id is not what
 * it adds.
 */
export function saidOf(reads: Reads, revision: number | null, headless: boolean, ids: ReadonlySet<Json>): Said {
  const number = (id: Json | undefined) => Number(String(id).slice(1));
  const ofView = revision === null ? [] : reads.list("edit", { index: "base", equals: { base_revision: revision } }).sort((a, b) => number(a["id"]) - number(b["id"]));
  const others = headless ? reads.list("edit", { index: "at", reverse: true, limit: HEADLESS_BACK }).filter((edit) => edit["base_revision"] !== revision) : [];
  const last = new Map<string, string>();
  const all = new Set<string>();
  const entries = new Map<string, (number | null)[]>();
  const numbers = new Map<string, number>();
  for (const line of linesOf(others)) {
    const [place, what, id] = line.split(" = ") as [string, string, string?];
    if (place === "+" && id !== undefined) entries.set(what, [...(entries.get(what) ?? []), Number(id)]);
  }
  for (const line of linesOf(ofView)) {
    const [place, what, id] = line.split(" = ") as [string, string, string?];
    if (place === "#") numbers.set(what, Number(id));
    else if (place === "+") entries.set(what, [...(entries.get(what) ?? []), id === undefined ? null : Number(id)]);
    else {
      last.set(place, what);
      all.add(line);
    }
  }
  const list: string[] = [];
  return {
    list,
    said: (place, value) => all.has(`${place} = ${fingerprintOf(value)}`),
    again(place, value) {
      const what = fingerprintOf(value);
      if (last.get(place) === what) return true;
      list.push(`${place} = ${what}`);
      return false;
    },
    addedBefore(entry) {
      const before = entries.get(fingerprintOf(entry)) ?? [];
      const at = before.findIndex((id) => id === null || typeof entry["id"] === "number" || !ids.has(id));
      return at < 0 ? undefined : before.splice(at, 1)[0];
    },
    numbered: (written) => (typeof written === "number" ? numbers.get(String(written)) : undefined),
    added(entry, id) {
      list.push(`+ = ${fingerprintOf(entry)}${id === null ? "" : ` = ${id}`}`);
      if (typeof entry["id"] === "number" && id !== null) list.push(`# = ${entry["id"]} = ${id}`);
    },
  };
}

const linesOf = (edits: readonly Rec[]): readonly string[] => edits.flatMap((edit) => (edit["said"] ?? []) as readonly string[]);

/** Short enough to be kept for each field that was edited. */
const fingerprintOf = (value: Json): string => sha256(sortedText(value), 16);
