// A list of tasks of any length: only the rows in sight are in the document.
import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import { version } from "./live.ts";
import { taskPages } from "./pages.ts";
import { glyphOf, statusName, Trouble } from "./parts.tsx";
import { ago } from "./time.ts";

/** The height of a row in pixels, as style.css has it. */
const ROW = 56;
/** Rows above and below what is in sight. */
const MARGIN = 6;

export function TaskList({ label, filter, total }: { label: string; filter: object; total: number | null }) {
  const key = JSON.stringify(filter);
  const [, draw] = useReducer((n: number) => n + 1, 0);
  const [error, setError] = useState<ApiError | null>(null);
  const pages = useMemo(() => taskPages(JSON.parse(key) as object, (failed) => (setError(failed), draw(0))), [key]);
  useEffect(() => {
    // The first call comes at once, for the version that is loaded already.
    let first = true;
    const end = version.subscribe(() => (first ? (first = false) : pages.refresh()));
    return () => {
      end();
      pages.end();
    };
  }, [pages]);

  const box = useRef<HTMLDivElement>(null);
  const [sight, setSight] = useState({ first: 0, last: 20 });
  const look = () => {
    const { scrollTop, clientHeight } = box.current!;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - MARGIN);
    const last = Math.ceil((scrollTop + clientHeight) / ROW) + MARGIN;
    if (first === sight.first && last === sight.last) return;
    setSight({ first, last });
    pages.look(first, last);
  };
  useEffect(look, [pages]);

  const { rows, whole } = pages.loaded();
  const length = whole ? rows : Math.max(rows, total ?? rows + 1);
  const shown = Array.from({ length: Math.max(0, Math.min(sight.last, length - 1) - sight.first + 1) }, (_, i) => sight.first + i);
  return (
    <div class="rows" ref={box} onScroll={look} onKeyDown={(event) => moveFocus(event, box.current!, length)}>
      <Trouble error={error} />
      {whole && length === 0 && <p class="none">None.</p>}
      <ul aria-label={label} style={{ height: `${length * ROW}px` }}>
        {shown.map((index) => <Row key={index} index={index} of={length} task={pages.rowAt(index)} />)}
      </ul>
    </div>
  );
}

function Row({ index, of, task }: { index: number; of: number; task: ReturnType<ReturnType<typeof taskPages>["rowAt"]> }) {
  return (
    <li style={{ transform: `translateY(${index * ROW}px)` }} aria-setsize={of} aria-posinset={index + 1}>
      {task === undefined ? (
        <span class="row is-loading">…</span>
      ) : (
        <a class={`row is-${task.status}`} href={`/tasks/${task.id}`} data-index={index}>
          <span class="row-glyph" aria-hidden="true">{glyphOf(task.status)}</span>
          <span class="row-text">{task.description}</span>
          <span class="row-note">
            #{task.id} · {statusName(task.status)}{task.attempts > 1 ? ` · ${task.attempts} of ${task.max_attempts} attempts` : ""} · {ago(task.updated_at)}
          </span>
        </a>
      )}
    </li>
  );
}

/** Up, down, j and k go from row to row. */
function moveFocus(event: KeyboardEvent, box: HTMLElement, length: number): void {
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  const from = (document.activeElement as HTMLElement | null)?.dataset["index"];
  if (step === undefined || from === undefined || event.metaKey || event.ctrlKey || event.altKey) return;
  event.preventDefault();
  const to = Math.min(Math.max(Number(from) + step, 0), length - 1);
  const focus = () => box.querySelector<HTMLElement>(`[data-index="${to}"]`)?.focus({ preventScroll: true });
  if (to * ROW < box.scrollTop) box.scrollTop = to * ROW;
  else if ((to + 1) * ROW > box.scrollTop + box.clientHeight) box.scrollTop = (to + 1) * ROW - box.clientHeight;
  focus();
  requestAnimationFrame(focus);
}
