// Small parts that every page uses.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Status } from "../src/core/records.ts";
import { ApiError, call } from "./api.ts";
import { Next } from "./next.tsx";
import { ago, local } from "./time.ts";

export const STATUSES: readonly Status[] = ["pending", "in_progress", "waiting", "review", "completed", "failed", "cancelled"];
const GLYPHS: { readonly [status in Status]: string } = { pending: "○", in_progress: "◐", waiting: "◇", review: "◑", completed: "✓", failed: "✗", cancelled: "–" };

export const statusName = (status: string): string => status.replace("_", " ");

export function Badge({ status }: { status: Status }) {
  return (
    <span class={`badge is-${status}`}>
      <span aria-hidden="true">{GLYPHS[status]}</span> {statusName(status)}
    </span>
  );
}

export const glyphOf = (status: Status): string => GLYPHS[status];

export function When({ at }: { at: string | null }) {
  return at === null ? null : <time dateTime={at} title={local(at)}>{ago(at)}</time>;
}

/** A stored value: a text as it stands, anything else as JSON. Never as markup. */
export function Value({ value }: { value: unknown }) {
  return <pre class="value" tabIndex={0}>{typeof value === "string" ? value : JSON.stringify(value, null, 2)}</pre>;
}

export function Trouble({ error }: { error: ApiError | null }) {
  return error === null ? null : (
    <p class="trouble" role="alert">
      {error.message} {error.next !== null && <span class="next"><Next text={error.next} /></span>}
    </p>
  );
}

export function Section({ title, children, aside }: { title: string; children: ComponentChildren; aside?: ComponentChildren }) {
  return (
    <section class="card">
      <header><h2>{title}</h2>{aside}</header>
      {children}
    </section>
  );
}

/** `of`: what is measured, for those who do not see where it stands. */
export function Meter({ label, of, value, max, note }: { label: string; of?: string; value: number; max: number; note?: string }) {
  const share = max > 0 ? Math.min(value / max, 1) : 0;
  return (
    <div class={`meter${share >= 1 ? " is-over" : share >= 0.8 ? " is-near" : ""}`}>
      <span class="meter-label">{label}</span>
      <progress value={share} max={1} aria-label={of === undefined ? label : `${label} of ${of}`} />
      <span class="meter-note">{note ?? `${value} of ${max}`}</span>
    </div>
  );
}

/** Runs an operation that writes, once at a time, and keeps what went wrong. */
export function useAction(): { readonly busy: boolean; readonly error: ApiError | null; run(name: string, input: object, then?: () => void): Promise<void> } {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  return {
    busy,
    error,
    async run(name, input, then) {
      setBusy(true);
      setError(null);
      try {
        await call(name, input);
        then?.();
      } catch (thrown) {
        setError(thrown as ApiError);
      } finally {
        setBusy(false);
      }
    },
  };
}

function sendForm(event: KeyboardEvent): void {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  event.preventDefault();
  // By its button: one that is disabled, because it is being sent, sends nothing again.
  (event.target as Element).closest("form")?.querySelector<HTMLButtonElement>("button.is-main")?.click();
}

/** A dialog of the browser: it keeps the focus, Escape closes it, and Ctrl+Enter sends its form from any field. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current!;
    if (!dialog.open) dialog.showModal();
  }, []);
  return (
    <dialog ref={ref} onClose={onClose} onKeyDown={sendForm} aria-labelledby="dialog-title">
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}
