// Formats and the steps between them, for every store. Invariants: a state says the number of its format; a newer one is
// never touched; an older one is brought up one step at a time, each after a backup that was read back, and each whole or
// not at all; fields that no step speaks of are kept.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { emptyOf } from "./check.ts";
import type { Kind, Migration, Model, Rec } from "./store.ts";

const FIRST = 1;

/** The format in which the model keeps a state. */
export const formatOf = (model: Model): number => FIRST + (model.migrations?.length ?? 0);

/** The step that leads away from `format`. */
export function stepFrom(model: Model, format: number): Migration {
  const step = model.migrations?.[format - FIRST];
  if (!step) throw new PawlError("internal", `There is no step from format ${format}.`);
  return step;
}

/** A kind as the format behind the step from `format` declares it: as a later step found it, else as it is now. */
export function kindAfter(model: Model, format: number, name: string): Kind | null {
  const later = model.migrations?.slice(format - FIRST + 1).find((step) => step.kinds[name]);
  return later?.kinds[name]!.before ?? model.kinds.find((kind) => kind.name === name) ?? null;
}

/** The same state in the words of an older format: for reading a backup of it. */
export const modelOf = (model: Model, format: number): Model => ({ ...model, migrations: model.migrations?.slice(0, format - FIRST) ?? [] });

/** A record as the older format had it: its declared fields, and of the others those that hold something. */
export function asBefore(before: Kind, record: Rec): Rec {
  const result: { [field: string]: Json } = { ...emptyOf(before) };
  for (const field in record) if (record[field] !== null || Object.hasOwn(before.fields, field)) result[field] = record[field]!;
  return result;
}

export function newerFormat(file: string, format: number, known: number): PawlError {
  return new PawlError("unsupported", `${file} has format ${format}; this version of Pawl reads up to ${known}. Nothing was touched.`, { next: "Update Pawl.", details: { format, known } });
}

export function olderFormat(file: string, format: number, known: number): PawlError {
  return new PawlError("unsupported", `${file} has format ${format}, and this version of Pawl keeps format ${known}. Reading alone does not change it.`, {
    next: "Any command that changes something brings it up to date, after a backup.",
    details: { format, known },
  });
}

/** What people are told of a step that was made. */
export const migrated = (file: string, format: number, step: Migration, backup: string): string => `Brought ${file} from format ${format} to ${format + 1} (${step.why}). A backup of format ${format} is ${backup}.`;
