// The calls of operations that a text of the server names, for somebody who looks at a page: which page has the button of each.
// Invariant: nothing here throws, whatever the text says; a call that cannot be read has no id.

/** `GET /api/NAME?id=…`, or `POST /api/NAME {…}` with an object of plain values; its texts may hold braces. */
const CALL = /(?:GET|POST) \/api\/(\w+)(?:\?(?:id|name)=([^\s&,;)]+?)(?=[.,;)]*(?:\s|$))| (\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}))?/g;

export type Page = { readonly path: string; readonly name: string };

/** The text in pieces: what is between calls as it is, each call with its page, null when it has none. */
export function callsIn(text: string): readonly (string | { readonly call: string; readonly page: Page | null })[] {
  const pieces: (string | { readonly call: string; readonly page: Page | null })[] = [];
  let from = 0;
  for (const match of text.matchAll(CALL)) {
    pieces.push(text.slice(from, match.index), { call: match[0], page: pageOf(match[1]!, idOf(match[2], match[3])) });
    from = match.index + match[0].length;
  }
  return [...pieces, text.slice(from)];
}

function idOf(query: string | undefined, json: string | undefined): string | null {
  try {
    if (query !== undefined) return decodeURIComponent(query);
    const id = json === undefined ? undefined : (JSON.parse(json) as { readonly id?: unknown }).id;
    return typeof id === "number" || typeof id === "string" ? String(id).toWellFormed() : null;
  } catch {
    return null;
  }
}

/** The page that shows it; "ID" stands for one that the text does not know. */
function pageOf(name: string, id: string | null): Page | null {
  const [noun] = name.split("_");
  if (noun === "decision") return { path: "/inbox", name: "inbox" };
  if (noun === "memory") return { path: "/memory", name: "memory" };
  if (noun === "batch") return id === null || id === "ID" ? { path: "/batches", name: "batches" } : { path: `/batches/${encodeURIComponent(id)}`, name: id };
  if (name === "agent_list") return { path: "/agents", name: "agents" };
  if (!["task", "why", "history", "agent", "status"].includes(noun!)) return null;
  return id === null || id === "ID" ? { path: "/", name: "tasks" } : { path: `/tasks/${encodeURIComponent(id)}`, name: `task ${id}` };
}
