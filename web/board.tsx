// The board: a column for each status, its count and its tasks; one column at a time where there is no room for more.
import type { Status } from "../src/core/records.ts";
import type { StatusReport } from "../src/core/status.ts";
import { counts } from "./live.ts";
import { glyphOf, STATUSES, statusName, Trouble } from "./parts.tsx";
import { useQuery } from "./query.ts";
import { go, route } from "./route.ts";
import { TaskList } from "./tasks.tsx";

/** Shown even when there is nothing in them. */
const ALWAYS: readonly Status[] = ["pending", "in_progress", "completed"];

export function Board() {
  const { query } = route.value;
  const [batch, tag] = [query.get("batch") ?? "", query.get("tag") ?? ""];
  const { data: report, error } = useQuery<StatusReport>("status", {});
  const tasks = counts.value?.tasks ?? {};
  const total = STATUSES.reduce((sum, status) => sum + (tasks[status] ?? 0), 0);
  if (counts.value !== null && total === 0) return <Empty />;
  const filtered = batch !== "" || tag !== "";
  const columns = STATUSES.filter((status) => ALWAYS.includes(status) || (tasks[status] ?? 0) > 0);
  const chosen = (query.get("status") as Status | null) ?? columns.find((status) => (tasks[status] ?? 0) > 0) ?? "pending";
  return (
    <>
      <h1 class="hidden">Tasks</h1>
      <Trouble error={error} />
      <Standing report={report} />
      <Filter batch={batch} tag={tag} batches={report?.batches.map(({ id }) => id) ?? []} />
      <nav class="tabs" aria-label="Status">
        {columns.map((status) => (
          <a key={status} href={address({ batch, tag, status })} aria-current={status === chosen ? "true" : undefined}>
            {statusName(status)} {!filtered && <span class="count">{tasks[status] ?? 0}</span>}
          </a>
        ))}
      </nav>
      <div class="board">
        {columns.map((status) => (
          <section key={status} class={`column${status === chosen ? " is-chosen" : ""}`} aria-labelledby={`column-${status}`}>
            <h2 id={`column-${status}`}>
              <span class={`is-${status}`} aria-hidden="true">{glyphOf(status)}</span> {statusName(status)} {!filtered && <span class="count">{tasks[status] ?? 0}</span>}
            </h2>
            <TaskList
              label={statusName(status)}
              filter={{ status, ...(batch === "" ? {} : { batch }), ...(tag === "" ? {} : { tag }) }}
              total={filtered ? null : (tasks[status] ?? 0)}
            />
          </section>
        ))}
      </div>
    </>
  );
}

function address(fields: { readonly [name: string]: string }): string {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== ""));
  return query.size === 0 ? "/" : `/?${query}`;
}

function Filter({ batch, tag, batches }: { batch: string; tag: string; batches: readonly string[] }) {
  const known = batch === "" || batches.includes(batch) ? batches : [batch, ...batches];
  return (
    <form class="filter" onSubmit={(event) => event.preventDefault()}>
      <label>
        Batch{" "}
        <select value={batch} onChange={(event) => go(address({ batch: event.currentTarget.value, tag }))}>
          <option value="">all tasks</option>
          {known.map((id) => <option key={id} value={id}>{id}</option>)}
        </select>
      </label>
      <label>
        Tag <input value={tag} placeholder="any" onChange={(event) => go(address({ batch, tag: event.currentTarget.value.trim() }))} />
      </label>
      {(batch !== "" || tag !== "") && <a href="/">clear</a>}
    </form>
  );
}

/** What a person should know before looking at any task. */
function Standing({ report }: { report: StatusReport | null }) {
  if (report === null) return null;
  const dead = report.workers.filter((worker) => worker.dead).length;
  const living = report.workers.length - dead;
  return (
    <ul class="standing">
      <li>{report.tasks.progress_percent} % done</li>
      <li>{living === 0 ? "no worker" : `${living} ${living === 1 ? "worker" : "workers"}`}{dead > 0 ? `, ${dead} died` : ""}</li>
      {report.tasks.blocked > 0 && <li class="is-warning">{report.tasks.blocked} blocked</li>}
      {report.decisions > 0 && <li class="is-warning"><a href="/inbox">{report.decisions} to decide</a></li>}
      {report.breakers.map((breaker) => <li key={breaker.id} class="is-warning">breaker {breaker.id} is {breaker.status}</li>)}
      {report.edits.length > 0 && <li class="is-warning">{report.edits.length} hand {report.edits.length === 1 ? "edit waits" : "edits wait"}: pawl status</li>}
    </ul>
  );
}

function Empty() {
  return (
    <div class="empty">
      <h1>No tasks yet</h1>
      <p>A task is work that must end exactly once. Add one here (press <kbd>a</kbd>), or in a terminal:</p>
      <pre tabIndex={0}>{`pawl add write a haiku about loops\npawl run --exec 'echo {description}'`}</pre>
      <p>A whole list, one line a task, that goes on where it stopped however often it is interrupted:</p>
      <pre tabIndex={0}>{`pawl run tasks.txt --with claude`}</pre>
      <p>This page follows by itself.</p>
    </div>
  );
}
