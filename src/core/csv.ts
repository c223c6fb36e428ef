// Reads CSV (RFC 4180, with a header) into drafts of list entries. Invariant: a file is read as the standard says or refused
// with its line; a cell is never guessed into another column.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { draftOf, fieldFromText, fieldName, isDescription, isKnown, type Collect, type Row } from "./list-entry.ts";

export function readCsv(text: string, collect: Collect): void {
  let header: string[] | null = null;
  for (const { line, cells, problem } of csvRecords(text)) {
    collect(line, () => {
      if (problem !== undefined) throw new PawlError("usage", problem, { next: 'Put the whole cell in quotes and write a quote inside it as "".' });
      if (header === null) {
        header = csvHeader(cells);
        return null;
      }
      if (cells.length > header.length && cells.slice(header.length).some((cell) => cell.trim() !== "") || cells.length < header.length) {
        throw new PawlError("usage", `The row has ${cells.length} cells, the header ${header.length}.`, { next: "Put cells that contain a comma in quotes." });
      }
      return draftOf(csvRow(header, cells));
    });
  }
}

function csvHeader(cells: readonly string[]): string[] {
  const header = cells.map((cell) => (isKnown(fieldName(cell)) ? fieldName(cell) : cell.trim()));
  const twice = header.find((name, i) => name !== "" && header.indexOf(name) !== i);
  if (twice !== undefined) throw new PawlError("usage", `The column "${twice}" is there twice.`, { next: "Rename one of them." });
  if (header.some(isDescription)) return header;
  throw new PawlError("usage", `No column says what is to be done; the columns are ${header.join(", ")}.`, { next: "Call one of them description (or task, or title), and separate cells by commas." });
}

/** Cells are texts: those of known fields become what the field is, the others stay. */
function csvRow(header: readonly string[], cells: readonly string[]): Row {
  const row: [string, Json][] = [];
  header.forEach((name, i) => {
    const cell = cells[i] as string;
    const word = cell.trim();
    if (name === "" && word !== "") throw new PawlError("usage", `Column ${i + 1} has no name in the header but a value here.`, { next: "Name the column in the first line." });
    if (name === "" || (word === "" && isKnown(name))) return;
    row.push([name, isKnown(name) ? fieldFromText(name, word) : cell]);
  });
  return Object.fromEntries(row);
}

type CsvRecord = { readonly line: number; readonly cells: string[]; readonly problem?: string };

/** RFC 4180. A record that breaks its rules is the last one and says so. */
function* csvRecords(text: string): Generator<CsvRecord> {
  let line = 1;
  for (let i = 0; i < text.length; ) {
    const start = line;
    const cells: string[] = [];
    let quoted = false;
    for (;;) {
      let end = i;
      if (text[i] === '"') {
        quoted = true;
        do end = text.indexOf('"', end + 1) + 1;
        while (end > 0 && text[end] === '"');
        if (end === 0) return yield { line, cells, problem: "A quote is opened here and never closed." };
        const cell = text.slice(i + 1, end - 1);
        cells.push(cell.replaceAll('""', '"'));
        line += cell.split("\n").length - 1;
        if (end < text.length && !/[,\r\n]/.test(text[end] as string)) return yield { line, cells, problem: "Something follows a closing quote." };
      } else {
        while (end < text.length && text[end] !== "," && text[end] !== "\n" && text[end] !== "\r") end++;
        const cell = text.slice(i, end);
        if (cell.includes('"')) return yield { line, cells, problem: "A quote stands in a cell that is not quoted." };
        cells.push(cell);
      }
      i = end + 1;
      if (text[end] !== ",") break;
    }
    if (text[i - 1] === "\r" && text[i] === "\n") i++;
    line++;
    if (quoted || cells.some((cell) => cell.trim() !== "")) yield { line: start, cells };
  }
}
