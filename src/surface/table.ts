// A plain table: columns as wide as their widest cell, the last one cut to the width of the terminal.
import stringWidth from "string-width";
import { oneLine } from "./escape.ts";
import type { Io } from "./io.ts";

/** Rows of stored text as aligned lines. In a pipe nothing is cut. */
export function table(io: Pick<Io, "tty" | "columns">, heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [heads, ...rows].map((row) => row.map((cell) => oneLine(cell, Infinity)));
  const widths = heads.map((_, i) => Math.max(...cells.map((row) => stringWidth(row[i] ?? ""))));
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
  const room = io.tty ? Math.max(io.columns - before, 20) : Infinity;
  const lines = cells.map((row) => row.map((cell, i) => (i === row.length - 1 ? oneLine(cell, room) : cell + " ".repeat(widths[i]! - stringWidth(cell) + 2))).join("").trimEnd());
  return `${lines.join("\n")}\n`;
}
