// Reads a list of tasks (text, Markdown, JSONL, JSON, CSV) into entries: text in, values out. Invariants: an entry's
// identity (`itemKey`) depends only on what its line asks for and on how many equal lines stand before it, never on how
// far it is; a list is read whole or refused with file and line; nothing but a PawlError is ever thrown.
import { iso, parseIso } from "../base/clock.ts";
import { parseDuration } from "../base/duration.ts";
import { isPawlError, PawlError } from "../base/errors.ts";
import { canonical, checkJson, sha256, sortedText, type Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { checkDescription, checkTaskFields, type NewTask } from "./new-task.ts";
import { STATUSES, type Status } from "./records.ts";

export const LIST_FORMATS = ["text", "markdown", "jsonl", "json", "csv"] as const;
export type ListFormat = (typeof LIST_FORMATS)[number];

/** Entries of one list at most: more is a data set, and a run of it would outlive any machine. */
export const MAX_ENTRIES = 1_000_000;

export type ListEntry = {
  readonly description: string;
  readonly key?: string;
  readonly input?: Json;
  readonly queue?: string;
  readonly priority?: number;
  readonly tags?: readonly string[];
  /** As written: keys, or ids of entries of the same list; `linkDependencies` in batch.ts tells them apart. */
  readonly depends_on?: readonly (string | number)[];
  readonly max_attempts?: number;
  readonly timeout_ms?: number;
  readonly verifier?: string;
  readonly run_at?: string;
  readonly deadline_at?: string;
  /** A deadline given as a duration ("2h"): counted from the import. */
  readonly deadline_ms?: number;
  /** Completed already: checked, marked [DONE], or by its status. */
  readonly done?: true;
  /** As the list says; whoever imports makes `pending` of what nobody works on here (in_progress, waiting, review). */
  readonly status?: Status;
  readonly result?: Json;
  /** The number the list calls it by; not the id it will get. */
  readonly ref?: number;
  /** Where it begins in the file, from 1. */
  readonly line: number;
  /** What it asks for, as one text: its identity. */
  readonly text: string;
  /** Counts entries of the same text, from 1. */
  readonly occurrence: number;
};

type Draft = Omit<ListEntry, "line" | "occurrence">;
type Row = { readonly [field: string]: Json };
type Collect = (line: number, make: () => Draft | null) => void;
type Reader = (text: string, collect: Collect, fileName: string) => void;

const READERS: { readonly [format in ListFormat]: Reader } = { text: readText, markdown: readMarkdown, jsonl: readJsonLines, json: readJson, csv: readCsv };
const EXTENSIONS: { readonly [extension: string]: ListFormat } = {
  txt: "text", md: "markdown", markdown: "markdown", jsonl: "jsonl", ndjson: "jsonl", json: "json", csv: "csv",
};

/** The entries of a list. Without a format it is told by the file's extension, else by the content. `-` is stdin. */
export function parseTaskList(text: string, format: ListFormat | undefined, fileName: string): { format: ListFormat; entries: ListEntry[] } {
  if (format !== undefined && !LIST_FORMATS.includes(format)) throw new PawlError("usage", `"${String(format)}" is not a format of task lists.`, { next: `Use one of ${LIST_FORMATS.join(", ")}.` });
  const content = text.startsWith("\uFEFF") ? text.slice(1) : text;
  const nul = content.indexOf("\0");
  if (nul >= 0) throw at(fileName, lineOf(content, nul), new PawlError("value_refused", "It contains a NUL character, so it is not a text file.", { next: "Give a UTF-8 text file." }));
  const known = format ?? detectFormat(content, fileName);
  const { entries, collect } = collector(fileName);
  READERS[known](content, collect, fileName);
  return { format: known, entries };
}

/** Entries from values a program made: descriptions, or objects with the fields of a task. `line` counts them. */
export function listEntries(values: readonly unknown[], name = "list"): ListEntry[] {
  const { entries, collect } = collector(name);
  values.forEach((value, i) => collect(i + 1, () => draftOf(value)));
  return entries;
}

/** The name of an entry within its batch: its key, or a hash of its text and which of the equal ones it is. */
export function itemKey(entry: Pick<ListEntry, "key" | "text" | "occurrence">): string {
  return entry.key ?? `${sha256(entry.text, 32)}#${entry.occurrence}`;
}

/** The text of a file. A byte order mark is dropped; anything but UTF-8 is refused with its line. */
export function decodeText(bytes: Uint8Array, fileName: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const wide = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    throw at(fileName, wide ? 1 : badLine(bytes), new PawlError("value_refused", wide ? "It is UTF-16, not UTF-8." : "It is not UTF-8 text.", { next: "Save it as UTF-8." }));
  }
}

function badLine(bytes: Uint8Array): number {
  for (let line = 1, start = 0; ; line++) {
    const end = bytes.indexOf(0x0a, start);
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(start, end < 0 ? bytes.length : end));
    } catch {
      return line;
    }
    if (end < 0) return line;
    start = end + 1;
  }
}

/** Puts the values of `--var` in the place of `{{name}}`. `where` (file:line) is for the error when one is missing. `\{{` stays `{{`. */
export function applyVars(text: string, vars: { readonly [name: string]: string }, where: string): string {
  return text.replace(/\\\{\{|\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}/g, (match, name: string | undefined) => {
    if (name === undefined) return "{{";
    if (Object.hasOwn(vars, name)) return vars[name] as string;
    throw new PawlError("usage", `${where}: {{${name}}} has no value.`, { next: `Give it with --var ${name}=VALUE, or write \\${match} to keep the braces.`, details: { variable: name } });
  });
}

/** The format by extension, else by what the content looks like. */
export function detectFormat(text: string, fileName: string): ListFormat {
  const extension = /\.([A-Za-z]+)$/.exec(fileName)?.[1]?.toLowerCase() ?? "";
  if (Object.hasOwn(EXTENSIONS, extension)) return EXTENSIONS[extension] as ListFormat;
  const body = text.trimStart();
  if (/^(\{\s*["}]|\[\s*["{])/.test(body)) {
    const first = tryJson(/^[^\r\n]*/.exec(body)?.[0] ?? "");
    return first !== null && typeof first === "object" && !Array.isArray(first) && listName(first) === undefined ? "jsonl" : "json";
  }
  if (/^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+\[[ xX]\][ \t]/m.test(text)) return "markdown";
  const header = /^[^\r\n]*/.exec(body)?.[0].split(",").map(fieldName) ?? [];
  return header.length > 1 && header.some((name) => DESCRIPTION_NAMES.includes(name)) ? "csv" : "text";
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/* ---------- collecting: places, identities, limits ---------- */

function collector(fileName: string): { entries: ListEntry[]; collect: Collect } {
  const entries: ListEntry[] = [];
  const occurrences = new Map<string, number>();
  const keys = new Map<string, number>();
  const collect: Collect = (line, make) => {
    try {
      const draft = make();
      if (draft === null) return;
      const taken = draft.key === undefined ? undefined : keys.get(draft.key);
      if (taken !== undefined) throw new PawlError("usage", `The key "${draft.key}" is already used in line ${taken}.`, { next: "Give each task a key of its own, or leave the keys out." });
      if (draft.key !== undefined) keys.set(draft.key, line);
      if (entries.length >= MAX_ENTRIES) throw new PawlError("value_refused", `The list has more than ${MAX_ENTRIES} tasks.`, { next: "Split it into several lists." });
      const occurrence = (occurrences.get(draft.text) ?? 0) + 1;
      occurrences.set(draft.text, occurrence);
      entries.push({ ...draft, line, occurrence });
    } catch (error) {
      throw isPawlError(error) ? at(fileName, line, error) : error;
    }
  };
  return { entries, collect };
}

/** The same error, with its place before it. */
function at(fileName: string, line: number, error: PawlError): PawlError {
  const file = fileName === "-" ? "stdin" : fileName;
  return new PawlError(error.code, `${file}:${line}: ${error.message}`, { next: error.next ?? "Correct this line and try again.", details: { ...error.details, file, line }, cause: error });
}

function lineOf(text: string, position: number): number {
  let line = 1;
  for (let i = text.indexOf("\n"); i >= 0 && i < position; i = text.indexOf("\n", i + 1)) line++;
  return line;
}

/** Calls `each` for every line, without its line end, trimmed. */
function eachLine(text: string, maxBytes: number, collect: Collect, each: (line: string) => Draft | null): void {
  text.split(/\r\n|\n|\r/).forEach((raw, i) => {
    collect(i + 1, () => {
      if (raw.length > maxBytes / 4 && Buffer.byteLength(raw) > maxBytes) throw new PawlError("value_refused", `The line is longer than ${maxBytes} bytes.`, { next: "Put long material into a file and name the file in the task." });
      return each(raw.trim());
    });
  });
}

/* ---------- text and Markdown ---------- */

function lineDraft(description: string, done: boolean): Draft | null {
  if (description === "") return null;
  checkDescription(description);
  return { description, text: description, ...(done ? { done: true } : {}) };
}

function readText(text: string, collect: Collect): void {
  eachLine(text, LIMITS.textBytes, collect, (line) => {
    if (line.startsWith("#")) return null;
    const done = /^\[DONE\](?:\s+|$)/.exec(line);
    return lineDraft(done ? line.slice(done[0].length) : line, done !== null);
  });
}

const BOX = /^(?:[-*+]|\d{1,9}[.)])\s+\[([ xX])\](?:\s+(.*))?$/s;
const BULLET = /^(?:[-*+]|\d{1,9}[.)])\s+(.*)$/s;

/** Checkboxes, or plain list items when there is no checkbox. Code blocks, comments and front matter hold no tasks. */
function readMarkdown(text: string, collect: Collect): void {
  const boxes = text.split(/\r\n|\n|\r/).some((line) => BOX.test(line.trim()));
  let fence = "";
  let skipTo = "";
  let first = true;
  eachLine(text, LIMITS.textBytes, collect, (line) => {
    const opensFile = first;
    first = false;
    if (skipTo !== "") {
      if (skipTo === "---" ? line === skipTo : line.includes(skipTo)) skipTo = "";
      return null;
    }
    const mark = /^(`{3,}|~{3,})/.exec(line)?.[0] ?? "";
    if (fence !== "") {
      if (mark.startsWith(fence) && mark.length === line.length) fence = "";
      return null;
    }
    fence = mark;
    if (opensFile && line === "---") skipTo = "---";
    else if (line.startsWith("<!--") && !line.includes("-->")) skipTo = "-->";
    if (fence !== "" || skipTo !== "" || /^(?:[-*_]\s*){3,}$/.test(line)) return null;
    const box = BOX.exec(line);
    if (box) return lineDraft((box[2] ?? "").trim(), box[1] !== " ");
    return boxes ? null : lineDraft((BULLET.exec(line)?.[1] ?? "").trim(), false);
  });
}

/* ---------- JSON and JSONL ---------- */

function readJsonLines(text: string, collect: Collect): void {
  eachLine(text, LIMITS.valueBytes, collect, (line) => {
    if (line === "") return null;
    try {
      return draftOf(JSON.parse(line));
    } catch (error) {
      if (isPawlError(error)) throw error;
      throw new PawlError("usage", `The line is not JSON: ${jsonMessage(error)}.`, { next: "Write one JSON object or string a line." });
    }
  });
}

function jsonMessage(error: unknown): string {
  return (error as Error).message.replace(/, (\.{3})?".*$/s, "").replace(/ in JSON at position .*$| at position .*$/s, "");
}

/** Names under which a list of tasks stands in an object: a state or an export of one, and what `--json` prints. */
const LIST_NAMES = ["tasks", "data"];

function listName(value: object): string | undefined {
  return LIST_NAMES.find((name) => Object.hasOwn(value, name) && Array.isArray((value as Record<string, unknown>)[name]));
}

function readJson(text: string, collect: Collect): void {
  if (text.trim() === "") return;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const stated = /\(line (\d+) column/.exec((error as Error).message)?.[1];
    const line = stated === undefined ? lineOf(text, scanJson(text, null).end) : Number(stated);
    return collect(line, () => {
      throw new PawlError("usage", `The file is not JSON: ${jsonMessage(error)}.`, { next: "Correct it there and try again; nothing was imported." });
    });
  }
  const name = value !== null && typeof value === "object" && !Array.isArray(value) ? listName(value) : null;
  const list = Array.isArray(value) ? value : typeof name === "string" ? (value as Record<string, unknown[]>)[name] : undefined;
  if (list === undefined) {
    return collect(1, () => {
      throw new PawlError("usage", "The file holds no list of tasks.", { next: 'Write an array of strings or objects, or {"tasks": […]}.' });
    });
  }
  const { starts } = scanJson(text, name ?? null);
  let line = 1;
  let seen = 0;
  list.forEach((item, i) => {
    const start = starts[i] ?? seen;
    for (let next = text.indexOf("\n", seen); next >= 0 && next < start; next = text.indexOf("\n", seen)) {
      line++;
      seen = next + 1;
    }
    collect(line, () => draftOf(item));
  });
}

/**
 * Where the elements of the top array (or of the array called `name`) start, and where a value is expected but none stands
 * (else the end). JSON.parse tells neither.
 */
function scanJson(text: string, name: string | null): { starts: number[]; end: number } {
  const starts: number[] = [];
  let depth = 0;
  let listDepth = 0;
  let label = "";
  let before = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (c === " " || c === "\n" || c === "\r" || c === "\t") continue;
    if (before === "" || before === "[" || before === "," || before === ":") {
      if (!/[[{"\d\-tfn]/.test(c) && !(c === "]" && before === "[")) return { starts, end: i };
      if (listDepth > 0 && depth === listDepth && c !== "]") starts.push(i);
    }
    if (c === '"') {
      const start = i + 1;
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
      if (depth === 1 && before !== ":") label = text.slice(start, i);
    } else if (c === "[" || c === "{") {
      if (c === "[" && (name === null ? depth === 0 : depth === 1 && before === ":" && label === name)) {
        listDepth = depth + 1;
        starts.length = 0;
      }
      depth++;
    } else if (c === "]" || c === "}") {
      if (depth === listDepth) listDepth = 0;
      depth--;
    } else if (c !== "," && c !== ":") {
      const word = /^[\w.+-]*/.exec(text.slice(i, i + 400))?.[0] ?? "";
      if (!/^(?:true|false|null|[\d.eE+-]+)$/.test(word)) return { starts, end: i };
      i += Math.max(word.length - 1, 0);
    }
    before = c;
  }
  return { starts, end: text.length };
}

/* ---------- CSV ---------- */

const fieldName = (header: string): string => header.trim().toLowerCase().replaceAll(/\s+/g, "_");

function readCsv(text: string, collect: Collect): void {
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
  if (header.some((name) => DESCRIPTION_NAMES.includes(name))) return header;
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
    row.push([name, isKnown(name) ? csvCell(name, word) : cell]);
  });
  return Object.fromEntries(row);
}

function csvCell(name: string, word: string): Json {
  if (INTEGERS.has(name)) return numberOr(word);
  if (name === "tags") return split(word, /;/);
  if (name === "depends_on") return split(word, /[;,]/).map(numberOr);
  if (name === "done" || name === "completed") return /^(?:true|yes|x|1)$/i.test(word) ? true : /^(?:false|no|0)$/i.test(word) ? false : word;
  if (name !== "input" || !/^[[{]/.test(word)) return word;
  const value = tryJson(word);
  if (value === undefined) throw new PawlError("usage", "The cell of input begins like JSON but is none.");
  return value as Json;
}

const split = (word: string, by: RegExp): string[] => word.split(by).map((part) => part.trim()).filter((part) => part !== "");
const numberOr = (word: string): string | number => (/^-?\d{1,15}$/.test(word) ? Number(word) : word);

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
    if (quoted || cells.length > 1 || cells[0]?.trim() !== "") yield { line: start, cells };
  }
}
