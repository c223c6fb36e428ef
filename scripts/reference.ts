// Prints docs/reference.md from the table of operations: `node scripts/reference.ts` writes it anew, and a test holds the page to
// what this gives. Invariant: nothing on that page is written by hand, so it cannot disagree with what the doors take.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonSchema } from "../src/base/params-schema.ts";
import { wireName, type Param } from "../src/base/params.ts";
import { OPERATIONS, type Operation } from "../src/operations.ts";
import { OUTPUTS } from "../src/operations/outputs.ts";
import { offered } from "../src/surface/mcp-tools.ts";

export const REFERENCE = join(import.meta.dirname, "..", "docs", "reference.md");

const HEAD = `# Reference: operations

Every operation, printed from the table that the command line, [HTTP](http.md) and [MCP](mcp.md) are made of
(\`node scripts/reference.ts\`). Names in JSON are in snake_case; durations are in ms there and texts such as \`90s\` on the command
line. Output kinds are at the [end](#outputs).

`;

export function referencePage(): string {
  const tools = new Set(offered({ all: false, allowDecisions: false, allowDestructive: false }).map(({ name }) => name));
  const rows = OPERATIONS.map(({ name, summary, effect }) => `| [\`${name}\`](#${name}) | ${effect} | ${tools.has(name) ? "yes" : ""} | ${summary} |`);
  const list = `| operation | effect | default tool | |\n|---|---|---|---|\n${rows.join("\n")}\n`;
  const outputs = Object.entries(OUTPUTS).map(([kind, schema]) => `| \`${kind}\` | ${cell(`\`${shapeOf(schema)}\``)} |`);
  return `${HEAD}${list}\n${OPERATIONS.map(section).join("\n")}\n## Outputs\n\nA field with \`?\` may be missing; \`null\` says that a value may be null; \`json\` is any value.\n\n| kind | data |\n|---|---|\n${outputs.join("\n")}\n`;
}

function section(operation: Operation): string {
  const { name, command, aliases, summary, effect, settles, params, output } = operation;
  const other = aliases?.map((alias) => `, \`pawl ${alias}\``).join("") ?? "";
  const marks = [`\`pawl ${command}\`${other}`, effect, ...(settles ? ["a person's to do"] : []), `gives \`${output}\``];
  const rows = Object.entries(params).map(([param, declared]) => `| \`${wireName(param, declared)}\` | ${typeText(declared)} | ${flagOf(param, declared)} | ${cell(declared.summary)} |`);
  const table = rows.length === 0 ? "It takes nothing.\n" : `| in JSON | type | command line | |\n|---|---|---|---|\n${rows.join("\n")}\n`;
  return `## ${name}\n\n${summary}. ${marks.join(" · ")}.\n\n${table}`;
}

function typeText(param: Param): string {
  const types = { text: "text", time: "time", integer: "integer", number: "number", duration: "ms", boolean: "boolean", json: "json", texts: "list of texts", ref: "id or key", refs: "list of ids or keys" };
  const choices = param.choices ? `: ${param.choices.map((choice) => `\`${choice}\``).join(", ")}` : "";
  return `${types[param.type]}${choices}${param.required ? ", required" : ""}`;
}

const flagOf = (name: string, param: Param): string => (param.arg ? `argument` : `\`--${name}\``);

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

/** A schema in a line: {id: integer, key: text or null, …}. */
function shapeOf(schema: JsonSchema): string {
  const { type, anyOf, items, properties, required = [], additionalProperties, enum: choices } = schema as {
    type?: string | string[]; anyOf?: JsonSchema[]; items?: JsonSchema; properties?: { [name: string]: JsonSchema }; required?: string[]; additionalProperties?: JsonSchema; enum?: string[];
  };
  if (anyOf) return anyOf.map(shapeOf).join(" or ");
  if (choices) return choices.join(" or ");
  const types = (Array.isArray(type) ? type : [type ?? "json"]).map((one) => {
    if (one === "array") return `[${shapeOf(items ?? {})}]`;
    if (one === "object" && properties) return `{ ${Object.entries(properties).map(([name, of]) => `${name}${required.includes(name) ? "" : "?"}: ${shapeOf(of)}`).join(", ")} }`;
    if (one === "object") return `{ name: ${shapeOf(additionalProperties ?? {})} }`;
    return one === "string" ? "text" : one;
  });
  return types.join(" or ");
}

if (process.argv[1] === import.meta.filename) writeFileSync(REFERENCE, referencePage());
