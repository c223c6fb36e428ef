// A plain table: columns as wide as their widest cell, the last one cut to what is left of the terminal. In a pipe nothing
// is cut. Cells are stored text: each is made one line that cannot act on the terminal.
import { columnsOf, oneLine } from "./escape.ts";
import type { Io } from "./io.ts";

export type Cell = { readonly text: string; readonly paint?: (text: string) => string };

/** The least that is left for the last column, however narrow the terminal. */
const LAST_COLUMNS = 20;
/** Cells before the last one are names and times; a longer one would push everything off the screen. */
const CELL_COLUMNS = 40;

/** Rows as aligned lines under their heads. */
export function table(io: Pick<Io, "tty" | "columns">, heads: readonly string[], rows: readonly (readonly (Cell | string)[])[]): string {
  const last = heads.length - 1;
  const cells = [heads, ...rows].map((row) => row.map((cell, i) => lineOf(cell, i === last || !io.tty ? Infinity : CELL_COLUMNS)));
  const widths = heads.map((_, i) => cells.reduce((most, row) => Math.max(most, row[i]!.width), 0));
  const before = widths.slice(0, last).reduce((sum, width) => sum + width + 2, 0);
  const room = io.tty ? Math.max(io.columns - before, LAST_COLUMNS) : Infinity;
  const lines = cells.map((row) => row.map((cell, i) => (i === last ? cell.paint(oneLine(cell.text, room)) : cell.paint(cell.text) + " ".repeat(widths[i]! - cell.width + 2))).join("").trimEnd());
  return `${lines.join("\n")}\n`;
}

function lineOf(cell: Cell | string, most: number): { text: string; width: number; paint: (text: string) => string } {
  const { text, paint = (same: string) => same } = typeof cell === "string" ? { text: cell } : cell;
  const line = oneLine(text, most);
  return { text: line, width: columnsOf(line), paint };
}
