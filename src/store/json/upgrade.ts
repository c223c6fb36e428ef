// Brings a JSON state of an older format up to date. Invariant: nothing of the old journal is changed; a step is one new
// segment, in place at once with every record as the newer format has it, and only after a backup of all before it was read
// back. A crash leaves the older state, or the newer one.
import { basename, dirname, join } from "node:path";
import { iso } from "../../base/clock.ts";
import { PawlError } from "../../base/errors.ts";
import { copyFile, type FileSystem, unlessMissing } from "../../base/fs.ts";
import { sortedText } from "../../base/json.ts";
import { asBefore, formatOf, kindAfter, migrated, modelOf, stepFrom } from "../migrations.ts";
import type { Migration, Model } from "../store.ts";
import { compact } from "../table.ts";
import { keyOf } from "../check.ts";
import type { Effect } from "../tables.ts";
import type { Replica } from "./checkpoint.ts";
import { inSlices, type Journal } from "./journal.ts";
import { type Places, placesOf, startReading, takeLine } from "./recovery.ts";

export type UpgradeHost = {
  readonly fs: FileSystem;
  readonly places: Places;
  readonly model: Model;
  readonly now: number;
  readonly notice: (line: string) => void;
  replica(): Replica;
  journal(): Journal;
  /** Takes in what stands in the journal behind what was read. */
  catchUp(): void;
};

/** Under the lock and caught up: one step after the other, until the state has the model's format. */
export function upgrade(host: UpgradeHost): void {
  const { model, places, notice } = host;
  for (let { format } = host.replica(); format < formatOf(model); format++) {
    const step = stepFrom(model, format);
    const backup = backUp(host, format);
    host.journal().upgrade(iso(host.now), format + 1, inSlices(effectsOf(model, format, step, host.replica())));
    host.catchUp();
    if (host.replica().format !== format + 1) throw new PawlError("internal", `The step to format ${format + 1} does not read back.`);
    notice(migrated(places.file, format, step, backup));
  }
}

/** What the step writes: the records that it changes, whole. */
function effectsOf(model: Model, format: number, step: Migration, { tables }: Replica): Effect[] {
  return Object.entries(step.kinds).flatMap(([name, { before, change }]) => {
    const after = kindAfter(model, format, name);
    return tables.all(name).flatMap((record): Effect[] => {
      const old = asBefore(before, record);
      const next = change(old);
      if (next === null || after === null) return [{ kind: name, key: keyOf(before, old), delete: true }];
      return sortedText(next) === sortedText(old) ? [] : [{ kind: name, record: compact(after, next) }];
    });
  });
}

/** A copy that opens by itself, in the folder of the state; its path comes back when it reads back to the same line. */
function backUp({ fs, places, model, journal }: UpgradeHost, format: number): string {
  const folder = freeFolder(fs, join(places.dir, "backup"), `format-${format}`);
  const copy = placesOf(fs, join(folder, basename(places.file)));
  for (const path of [copy.journal, copy.checkpoint]) fs.mkdir(path, 0o700);
  const names = (from: string) => (fs.readdir(from) ?? []).filter((name) => name.endsWith(".jsonl"));
  const files = [[places.journal, copy.journal], [places.checkpoint, copy.checkpoint]].flatMap(([from, to]) => names(from!).map((name) => [join(from!, name), join(to!, name)] as const));
  for (const [from, to] of [...files, [places.file, copy.file] as const]) unlessMissing(() => copyFile(fs, from, to));
  for (const path of [copy.journal, copy.checkpoint, copy.dir, folder, dirname(folder), places.dir]) fs.fsyncDir(path);
  const { hash, n } = journal().position;
  const found = endOf(fs, copy, modelOf(model, format));
  if (found.n === n && found.hash === hash) return copy.file;
  throw new PawlError("corrupt", `The backup ${copy.file} does not read back as what was copied. The state was not changed.`, { next: "Check the disk, then try again." });
}

function endOf(fs: FileSystem, places: Places, model: Model): { readonly n: number; readonly hash: string } {
  const { journal, replica } = startReading(fs, places, model, false, () => undefined);
  try {
    const tail = journal.read((line, bytes) => takeLine(replica, line, bytes));
    if (tail.is === "damaged") throw tail.error;
    return journal.position;
  } finally {
    journal.close();
  }
}

/** A folder of that name, or with a number behind it when an interrupted step left one. */
function freeFolder(fs: FileSystem, parent: string, name: string): string {
  for (let i = 1; ; i++) {
    const path = join(parent, i === 1 ? name : `${name}-${i}`);
    if (fs.lstat(path)) continue;
    fs.mkdir(path, 0o700);
    return path;
  }
}
