// Reads a list of tasks (text, Markdown, JSONL, JSON, CSV) into entries: text in, values out. Invariants: an entry's
// identity (`itemKey`) depends only on what its line asks for and on how many equal lines stand before it, never on how
// far it is; a list is read whole or refused with file and line; nothing but a PawlError is ever thrown.
import { isPawlError, PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";
import { parseStrict, textOf, type JsonText } from "../base/json-text.ts";
import { LIMITS } from "../base/limits.ts";
import { readCsv } from "./csv.ts";
import { draftOf, fieldName, isDescription, lineDraft, type Collect, type Draft, type ListEntry } from "./list-entry.ts";

export { itemKey, type ListEntry } from "./list-entry.ts";

export const LIST_FORMATS = ["text", "markdown", "jsonl", "json", "csv"] as const;
export type ListFormat = (typeof LIST_FORMATS)[number];

type Reader = (text: string, collect: Collect) => void;

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
  READERS[known](content, collect);
  return { format: known, entries };
}

/** Entries from values a program made: descriptions, or objects with the fields of a task. `line` counts them. */
export function listEntries(values: readonly unknown[], name = "list"): ListEntry[] {
  const { entries, collect } = collector(name);
  values.forEach((value, i) => collect(i + 1, () => draftOf(value)));
  return entries;
}

/** The text of a file. A byte order mark is dropped; anything but UTF-8 is refused with its line. */
export function decodeText(bytes: Uint8Array, fileName: string): string {
  return textOf(bytes, fileName === "-" ? "stdin" : fileName, "value_refused");
}

/**
 * Puts the values of `--var` in the place of `{{NAME}}`; `\{{` stays `{{`. One without a value is refused with its line: as a
 * task it would be worked as it stands, and once it is filled it would be another.
 */
export function applyVars(text: string, vars: { readonly [name: string]: string }, fileName: string): string {
  return text.replace(/\\\{\{|\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}/g, (match, name: string | undefined, offset: number) => {
    if (name === undefined) return "{{";
    if (Object.hasOwn(vars, name)) return vars[name] as string;
    const next = `Give it with --var ${name}=VALUE. To keep the braces as they are, write \\${match}.`;
    throw at(fileName, lineOf(text, offset), new PawlError("usage", `{{${name}}} has no value.`, { next, details: { variable: name } }));
  });
}

/** The format by extension, else by what the content looks like. */
export function detectFormat(text: string, fileName: string): ListFormat {
  const extension = /\.([A-Za-z]+)$/.exec(fileName)?.[1]?.toLowerCase() ?? "";
  if (Object.hasOwn(EXTENSIONS, extension)) return EXTENSIONS[extension] as ListFormat;
  const body = text.trim();
  if (/^(\{\s*["}]|\[\s*["{]|\[\s*\]$)/.test(body)) {
    const first = tryJson(/^[^\r\n]*/.exec(body)?.[0] ?? "");
    return first !== null && typeof first === "object" && !Array.isArray(first) && listName(first) === undefined ? "jsonl" : "json";
  }
  if (/^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+\[[ xX]\][ \t]/m.test(text)) return "markdown";
  const header = /^[^\r\n]*/.exec(body)?.[0].split(",").map(fieldName) ?? [];
  return header.length > 1 && header.some(isDescription) ? "csv" : "text";
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/* ---------- collecting: places, identities, limits ---------- */

/** Gathers the entries of a list; what is wrong with one is thrown with its file and line. */
export function collector(fileName: string): { entries: ListEntry[]; collect: Collect } {
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
      if (entries.length >= LIMITS.listEntries) throw new PawlError("value_refused", `The list has more than ${LIMITS.listEntries} tasks.`, { next: "Split it into several lists." });
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

const linesOf = (text: string): string[] => text.split(/\r\n|\n|\r/);

/** Collects what `each` makes of every line, trimmed. */
function eachLine(lines: readonly string[], maxBytes: number, collect: Collect, each: (line: string) => Draft | null): void {
  lines.forEach((raw, i) => {
    collect(i + 1, () => {
      if (raw.length <= maxBytes / 4 || Buffer.byteLength(raw) <= maxBytes) return each(raw.trim());
      throw new PawlError("value_refused", `The line is longer than ${maxBytes} bytes.`, { next: "Put long material into a file and name the file in the task." });
    });
  });
}

/* ---------- text and Markdown ---------- */

function readText(text: string, collect: Collect): void {
  eachLine(linesOf(text), LIMITS.textBytes, collect, (line) => {
    if (line.startsWith("#")) return null;
    const done = /^\[DONE\](?:\s+|$)/.exec(line);
    return lineDraft(done ? line.slice(done[0].length) : line, done !== null);
  });
}

const BOX = /^(?:[-*+]|\d{1,9}[.)])\s+\[([ xX])\](?:\s+(.*))?$/s;
const BULLET = /^(?:[-*+]|\d{1,9}[.)])\s+(.*)$/s;
const RULE = /^(?:[-*_]\s*){3,}$/;

/** Checkboxes, or plain list items when there is no checkbox. */
function readMarkdown(text: string, collect: Collect): void {
  const lines = proseOf(linesOf(text));
  const boxes = lines.some((line) => BOX.test(line.trim()));
  eachLine(lines, LIMITS.textBytes, collect, (line) => {
    const box = BOX.exec(line);
    if (box) return lineDraft((box[2] ?? "").trim(), box[1] !== " ");
    return boxes || RULE.test(line) ? null : lineDraft((BULLET.exec(line)?.[1] ?? "").trim(), false);
  });
}

/** The lines with front matter, code blocks and comments blanked: what looks like a task in there is none. */
function proseOf(lines: readonly string[]): string[] {
  const front = lines[0]?.trimEnd() === "---" ? lines.findIndex((line, i) => i > 0 && line.trimEnd() === "---") : -1;
  let fence = "";
  let comment = false;
  return lines.map((raw, i) => {
    const line = raw.trim();
    if (i <= front) return "";
    if (comment) {
      comment = !line.includes("-->");
      return "";
    }
    const mark = /^(?:`{3,}(?!.*`)|~{3,})/.exec(line)?.[0] ?? "";
    if (fence !== "") {
      if (mark.startsWith(fence) && mark === line) fence = "";
      return "";
    }
    fence = mark;
    comment = line.startsWith("<!--") && !line.includes("-->");
    return fence !== "" || comment ? "" : raw;
  });
}

/* ---------- JSON and JSONL ---------- */

function readJsonLines(text: string, collect: Collect): void {
  eachLine(linesOf(text), LIMITS.valueBytes, collect, (line) => {
    if (line === "") return null;
    const { parsed, error } = strictly(line, "line", "Write one JSON object or string a line.");
    if (error) throw error;
    return draftOf(parsed.value);
  });
}

/** The text as JSON, or what is wrong with it; the error's line is in its details. */
function strictly(text: string, what: string, next: string): { readonly parsed: JsonText; readonly error?: never } | { readonly parsed?: never; readonly error: PawlError } {
  try {
    return { parsed: parseStrict(text, what) };
  } catch (error) {
    if (!isPawlError(error, "corrupt")) throw error;
    const { line, column, why } = error.details as { line: number; column: number; why: string };
    return { error: new PawlError("usage", `The ${what} is not JSON: ${why} (column ${column}).`, { next, details: { line } }) };
  }
}

/** Names under which a list of tasks stands in an object: a state or an export of one, and what `--json` prints. */
const LIST_NAMES = ["tasks", "data"];

function listName(value: object): string | undefined {
  return LIST_NAMES.find((name) => Object.hasOwn(value, name) && Array.isArray((value as Record<string, unknown>)[name]));
}

function readJson(text: string, collect: Collect): void {
  if (text.trim() === "") return;
  const { parsed, error } = strictly(text, "file", "Correct it there and try again; nothing was imported.");
  if (error) {
    return collect(error.details!["line"] as number, () => {
      throw error;
    });
  }
  const { value, lineOfItem } = parsed;
  const name = value !== null && typeof value === "object" && !Array.isArray(value) ? listName(value) : undefined;
  const list = Array.isArray(value) ? value : name === undefined ? undefined : (value as { readonly [name: string]: readonly Json[] })[name];
  if (list === undefined) {
    return collect(1, () => {
      throw new PawlError("usage", "The file holds no list of tasks.", { next: 'Write an array of strings or objects, or {"tasks": […]}.' });
    });
  }
  list.forEach((item: Json, i: number) => collect(lineOfItem(list, i), () => draftOf(item)));
}
