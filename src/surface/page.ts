// What text for people is made for: the terminal or pipe it goes to, and the present.
import type { Json } from "../base/json.ts";
import type { Io } from "./io.ts";

export type Page = {
  readonly io: Pick<Io, "tty" | "color" | "columns">;
  readonly now: number;
  /** How many records a list was limited to; null when it is whole. */
  readonly limit?: number | null;
};

/** A stored value on one line: a text as it stands, anything else as JSON. */
export const textOf = (value: Json): string => (typeof value === "string" ? value : JSON.stringify(value));
