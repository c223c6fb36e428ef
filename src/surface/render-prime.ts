// What a coding agent is told, as text; or as the document that its hook hands on.
import { escapeText } from "./escape.ts";

export function renderPrime({ text, hook }: { readonly text: string; readonly hook: object | null }): string {
  return hook === null ? escapeText(text) : `${escapeText(JSON.stringify(hook))}\n`;
}
