// What helps against an error, for somebody who looks at a page: the server names operations, and each becomes a link to the
// page that has its button. One without a page stays as it was said.
import type { ComponentChildren } from "preact";

const CALL = /(?:GET|POST) \/api\/(\w+)(?:\?(?:id|name)=([^\s&,;)]+?)(?=[.,;)]*(?:\s|$))| (\{.*?\}))?/g;

export function Next({ text }: { text: string }) {
  const parts: ComponentChildren[] = [];
  let from = 0;
  for (const match of text.matchAll(CALL)) {
    const page = pageOf(match[1]!, idOf(match[2], match[3]));
    parts.push(text.slice(from, match.index), page === null ? <code>{match[0]}</code> : <a href={page.path}>{page.name}</a>);
    from = match.index + match[0].length;
  }
  return <>{parts}{text.slice(from)}</>;
}

function idOf(query: string | undefined, json: string | undefined): string | null {
  if (query !== undefined) return decodeURIComponent(query);
  const id = json === undefined ? undefined : (JSON.parse(json) as { readonly id?: unknown }).id;
  return typeof id === "number" || typeof id === "string" ? String(id) : null;
}

/** The page that shows it; "ID" stands for one that the text does not know. */
function pageOf(name: string, id: string | null): { readonly path: string; readonly name: string } | null {
  const [noun] = name.split("_");
  if (noun === "decision") return { path: "/inbox", name: "inbox" };
  if (noun === "memory") return { path: "/memory", name: "memory" };
  if (noun === "batch") return id === null || id === "ID" ? { path: "/batches", name: "batches" } : { path: `/batches/${encodeURIComponent(id)}`, name: id };
  if (name === "agent_list") return { path: "/agents", name: "agents" };
  if (!["task", "why", "history", "agent", "status"].includes(noun!)) return null;
  return id === null || id === "ID" ? { path: "/", name: "tasks" } : { path: `/tasks/${encodeURIComponent(id)}`, name: `task ${id}` };
}
