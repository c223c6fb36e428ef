// Command lines as words, and texts with placeholders. Invariant: whatever a task's text holds, it stays one word and is
// never read as shell code; nothing is expanded, and inserted text is never looked through again.
import { PawlError } from "../base/errors.ts";
import type { Json } from "../base/json.ts";

type Word = { readonly text: string; readonly quoted: boolean };

/**
 * Splits a command line as a POSIX shell would at quotes, backslashes and blanks, and does nothing else a shell does:
 * `$ * ? ~ ; | & < > #` and backticks are plain text. An unclosed quote is a `usage` error.
 */
export function splitWords(text: string): string[] {
  return scan(text).map((word) => word.text);
}

/** What a shell would take for an operator and does not stand in quotes: `&&`, `|`, `;`, `>out.txt`, `2>&1`, `cmd;`. */
const OPERATOR = /^(?:\d*>.*|\d*<(?![^<>]*>).*|&&?|\|\|?|.*;)$/s;

/** The first word that a shell would not read as a word, or null. To us it is text, which its writer hardly meant. */
export function shellOperator(text: string): string | null {
  return scan(text).find((word) => !word.quoted && OPERATOR.test(word.text))?.text ?? null;
}

function scan(text: string): Word[] {
  refuseNul(text, "The command");
  const words: Word[] = [];
  let word = "";
  let quoted = false;
  let started = false;
  const end = () => {
    if (started) words.push({ text: word, quoted });
    [word, quoted, started] = ["", false, false];
  };
  for (let i = 0; i < text.length; i++) {
    const char = text[i]!;
    if (char === " " || char === "\t" || char === "\n") {
      end();
    } else if (char === "\\") {
      if (text[i + 1] === "\n") i++; // a line that goes on
      else {
        // As in a shell, a backslash at the very end is itself.
        word += text[i + 1] ?? "\\";
        started = quoted = true;
        i++;
      }
    } else if (char === "'" || char === '"') {
      const close = char === "'" ? text.indexOf("'", i + 1) : closingQuote(text, i + 1);
      if (close < 0) throw unclosed(text, i);
      const inner = text.slice(i + 1, close);
      // Between double quotes a backslash escapes only what would end or expand there.
      word += char === "'" ? inner : inner.replace(/\\(?:\n|([$`"\\]))/g, (_, escaped: string | undefined) => escaped ?? "");
      started = quoted = true;
      i = close;
    } else {
      word += char;
      started = true;
    }
  }
  end();
  return words;
}

function closingQuote(text: string, from: number): number {
  for (let i = from; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i;
  }
  return -1;
}

function unclosed(text: string, at: number): PawlError {
  return new PawlError("usage", `The quote ${text[at]} at character ${at + 1} of the command is not closed: ${text}`, {
    next: `Close it, or write \\${text[at]} for a plain ${text[at]}.`,
    details: { command: text, position: at + 1 },
  });
}

/** `text` as one word for a POSIX shell. */
export function shellQuote(text: string): string {
  refuseNul(text, "A word");
  // A bare NAME=value would be an assignment, so `=` is left bare only in options.
  if (/^(?:[\w@%+:,./-]+|-[\w@%+=:,./-]+)$/.test(text)) return text;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** What a placeholder may stand for: `{description} {id} {attempt} {feedback} {input.field}`, and `{prompt}` when there is one. */
export type Fillings = {
  readonly id: number;
  readonly description: string;
  readonly attempts: number;
  readonly feedback: string | null;
  readonly input: Json;
  readonly prompt?: string;
};

const PLACEHOLDER = /\{(description|id|attempt|feedback|prompt|input(?:\.[^{}.\s]+)+)\}/g;

/** The names of the placeholders in `template`, as they are written. */
export function placeholders(template: string): string[] {
  return [...template.matchAll(PLACEHOLDER)].map((match) => match[1]!);
}

/**
 * Replaces the known placeholders and leaves every other brace as it is: there is no escape, and none is needed. Inserted
 * text is not looked through again. `quote` decides how a value is put in. A missing input field is a `usage` error.
 *
 * A description may begin with `-`; a program that takes options may then read it as one. Write `--` before it, as in
 * `grep -- {description} notes.txt`, or let the program read the task from stdin.
 */
export function fillPlaceholders(template: string, values: Fillings, options: { quote?: (text: string, at: number) => string } = {}): string {
  return template.replace(PLACEHOLDER, (whole: string, name: string, at: number) => {
    const value = valueOf(name, values);
    if (value === undefined) return whole;
    refuseNul(value, `The value of {${name}}`);
    return options.quote ? options.quote(value, at) : value;
  });
}

function valueOf(name: string, values: Fillings): string | undefined {
  switch (name) {
    case "description":
      return values.description;
    case "id":
      return String(values.id);
    case "attempt":
      return String(values.attempts);
    case "feedback":
      return values.feedback ?? "";
    case "prompt":
      return values.prompt;
    default:
      return inputField(name, values);
  }
}

/** Text as it is, an absent value (null) as nothing, everything else as JSON. */
function inputField(name: string, values: Fillings): string {
  let value: Json | undefined = values.input;
  for (const part of name.split(".").slice(1)) {
    const inside: object | null = typeof value === "object" ? value : null;
    value = inside !== null && Object.hasOwn(inside, part) ? (inside as { [key: string]: Json })[part] : undefined;
    if (value === undefined) throw missingField(name, values);
  }
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function missingField(name: string, values: Fillings): PawlError {
  const input = values.input;
  const known = typeof input === "object" && input !== null && !Array.isArray(input) ? Object.keys(input) : [];
  return new PawlError("usage", `Task ${values.id} has no ${name}, which the command uses as {${name}}.`, {
    next: known.length > 0 ? `Its input has: ${known.slice(0, 20).join(", ")}.` : "Add the field to the task's input, or take the placeholder out of the command.",
    details: { id: values.id, field: name },
  });
}

/* ---------- words of a command ---------- */

const SHELLS = new Set(["sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish"]);

/** A command with its texts in place. `env` holds what its shell scripts refer to. */
export type FilledWords = { readonly words: string[]; readonly env: { readonly [name: string]: string } };

/**
 * Fills each word by itself, so one word stays one word. In the script of a shell (`sh -c '…'`, also behind `env` or
 * `timeout`) a placeholder becomes a quoted reference to a variable, never text: `sh -c 'echo {description}'` runs
 * `echo "$PAWL_ARG_1"`. A shell does not read the value of a variable as code, whatever it holds.
 *
 * What is beyond our sight stays the writer's care: a script of another language (`python -c`), a command sent to another
 * host (`ssh host '…'`), `eval`. Read the text there from PAWL_DESCRIPTION or from stdin.
 */
export function fillWords(words: readonly string[], values: Fillings): FilledWords {
  const scripts = scriptWords(words);
  const env: { [name: string]: string } = {};
  let count = 0;
  const filled = words.map((word, i) => {
    if (!scripts.has(i)) return fillPlaceholders(word, values);
    return fillPlaceholders(word, values, {
      quote: (text, at) => {
        const name = `PAWL_ARG_${++count}`;
        env[name] = text;
        return reference(name, quoteAt(word, at));
      },
    });
  });
  return { words: filled, env };
}

/** Which words are scripts of a shell: the first after its options, when these contain -c. */
function scriptWords(words: readonly string[]): Set<number> {
  const found = new Set<number>();
  words.forEach((word, i) => {
    if (!SHELLS.has(word.slice(word.lastIndexOf("/") + 1))) return;
    const script = scriptAfter(words, i + 1);
    if (script !== null) found.add(script);
  });
  return found;
}

function scriptAfter(words: readonly string[], from: number): number | null {
  let takesScript = false;
  let i = from;
  for (; i < words.length; i++) {
    const word = words[i]!;
    if (!/^[-+]./.test(word)) break;
    if (word === "--") {
      i++;
      break;
    }
    if (word.startsWith("--command=")) return i;
    if (word === "--command") takesScript = true;
    else if (word === "--rcfile" || word === "--init-file") i++;
    else if (!word.startsWith("--")) {
      if (word.startsWith("-") && word.includes("c")) takesScript = true;
      i += [...word].filter((char) => char === "o" || char === "O").length; // -o takes the next word
    }
  }
  return takesScript && i < words.length ? i : null;
}

type Quote = "" | "'" | '"';

/**
 * Inside which quotes of a script the character `at` stands. Exotic syntax (a substitution between double quotes, a
 * here-document) may fool it; then the text is split or shows quotes, but still never runs.
 */
function quoteAt(script: string, at: number): Quote {
  let quote: Quote = "";
  for (let i = 0; i < at; i++) {
    const char = script[i]!;
    if (char === "\\" && quote !== "'") i++;
    else if (quote !== "") quote = char === quote ? "" : quote;
    else if (char === "'" || char === '"') quote = char;
    else if (char === "#" && (i === 0 || /[\s;&|(]/.test(script[i - 1]!))) {
      const end = script.indexOf("\n", i);
      i = end < 0 ? at : end;
    }
  }
  return quote;
}

/** The variable between double quotes of its own; quotes around it are closed before and opened again after. */
function reference(name: string, inside: Quote): string {
  return `${inside}"$${name}"${inside}`;
}

function refuseNul(text: string, what: string): void {
  if (!text.includes("\0")) return;
  throw new PawlError("usage", `${what} contains a NUL character, which no program can be given.`, { next: "Remove the NUL." });
}
