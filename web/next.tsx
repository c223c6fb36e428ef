// What helps against an error, for somebody who looks at a page: the server names operations, and each becomes a link to the
// page that has its button. One without a page stays as it was said.
import { callsIn } from "./calls.ts";

export function Next({ text }: { text: string }) {
  return <>{callsIn(text).map((piece) => (typeof piece === "string" ? piece : piece.page === null ? <code>{piece.call}</code> : <a href={piece.page.path}>{piece.page.name}</a>))}</>;
}
