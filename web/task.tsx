// One task: where it stands and why, what can be done about it, its steps, its agent, its history.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Task, Transition } from "../src/core/records.ts";
import type { Why } from "../src/core/why.ts";
import { AgentSection } from "./agent.tsx";
import { Badge, Dialog, Section, Trouble, useAction, Value, When } from "./parts.tsx";
import { useQuery } from "./query.ts";
import { Timeline, type ShownStep } from "./steps.tsx";
import { local } from "./time.ts";

type Detail = { readonly task: Task; readonly steps: readonly ShownStep[]; readonly agent?: object };

export function TaskPage({ id }: { id: string }) {
  const { data, error } = useQuery<Detail>("task_show", { id });
  const { data: why } = useQuery<Why>("why", { id });
  if (data === null) return error === null ? <p class="none">…</p> : <><h1>Task {id}</h1><Trouble error={error} /></>;
  const { task, steps, agent } = data;
  return (
    <article class="task">
      <header class="page-head">
        <h1><span class="task-id">#{task.id}</span> {task.description}</h1>
        <Badge status={task.status} />
      </header>
      <Trouble error={error} />
      <WhySection why={why} />
      <Actions task={task} />
      <Facts task={task} />
      {task.feedback !== null && <Section title="Feedback"><Value value={task.feedback} /></Section>}
      {task.error !== null && <Section title="Error"><Value value={task.error.cause === undefined ? task.error.message : `${task.error.message}\n${task.error.cause}`} /></Section>}
      {task.result !== null && <Section title="Result"><Value value={task.result} /></Section>}
      <Section title="Steps"><Timeline task={task} steps={steps} /></Section>
      {agent !== undefined && <AgentSection id={String(task.id)} />}
      <HistorySection id={String(task.id)} />
    </article>
  );
}

function WhySection({ why }: { why: Why | null }) {
  if (why === null) return null;
  const { skip, check, redo } = why.resume;
  return (
    <Section title="Why it stands here">
      <p>{why.summary}</p>
      {why.blockers.length > 0 && <p>Behind {why.blockers.map((blocker) => <span key={blocker.id}><a href={`/tasks/${blocker.id}`}>#{blocker.id}</a> ({blocker.status}) </span>)}</p>}
      {why.decisions.length > 0 && <p><a href="/inbox">{why.decisions.map(({ id }) => id).join(", ")}</a> {why.decisions.length === 1 ? "waits" : "wait"} for a person.</p>}
      {skip.length + check.length + redo.length > 0 && (
        <p class="quiet">A next execution skips {skip.length} recorded steps, checks {check.length}, runs {redo.length} again.</p>
      )}
      <p class="quiet">What moves it: <code>{why.next}</code></p>
    </Section>
  );
}

function Facts({ task }: { task: Task }) {
  const rows: readonly (readonly [string, ComponentChildren])[] = [
    ["attempts", `${task.attempts} of ${task.max_attempts}`], ["queue", task.queue], ["priority", task.priority], ["key", task.key],
    ["batch", task.batch_id && <a href={`/batches/${task.batch_id}`}>{task.batch_id}</a>], ["parent", task.parent_id && <a href={`/tasks/${task.parent_id}`}>#{task.parent_id}</a>],
    ["after", task.depends_on.length > 0 && task.depends_on.map((other) => <span key={other}><a href={`/tasks/${other}`}>#{other}</a> </span>)],
    ["tags", task.tags.length > 0 && task.tags.map((tag) => <span key={tag}><a href={`/?tag=${encodeURIComponent(tag)}`}>{tag}</a> </span>)], ["worker", task.worker],
    ["deadline", task.deadline_at && <When at={task.deadline_at} />], ["not before", task.run_at && <When at={task.run_at} />],
    ["created", <When at={task.created_at} />], ["completed", task.completed_at && <When at={task.completed_at} />],
  ];
  return (
    <Section title="Facts">
      <dl class="facts">{rows.map(([name, value]) => value !== null && value !== false && value !== "" && <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      {task.input !== null && <details><summary>Input</summary><Value value={task.input} /></details>}
    </Section>
  );
}

type Ask = { readonly title: string; readonly name: string; readonly label: string; readonly required: boolean; readonly input: object; readonly warning?: string };

/** What the status of a task allows. The server decides; these are the ones that make sense. */
function asksOf(task: Task): readonly Ask[] {
  const reason = (title: string, name: string, required = false, input: object = {}, warning?: string): Ask => ({ title, name, label: "Reason", required, input, ...(warning === undefined ? {} : { warning }) });
  const asks: Ask[] = [];
  if (task.status === "failed") asks.push(reason("Retry", "task_retry"), reason("Retry, steps again", "task_retry", false, { fresh: true }));
  if (task.status === "completed" || task.status === "cancelled") asks.push(reason("Reopen", "task_reopen", true));
  if (task.worker !== null) asks.push(reason("Take from its worker", "task_release", false, { force: true }, "Its worker can write nothing more about it. What it is doing may still happen."));
  if (!["completed", "failed", "cancelled"].includes(task.status)) asks.push(reason("Cancel", "task_cancel"));
  if (task.status !== "pending") asks.push(reason("Reset", "task_reset", false, {}, "Result, feedback, attempts and steps are cleared; the history stays."));
  return asks;
}

function Actions({ task }: { task: Task }) {
  const [ask, setAsk] = useState<Ask | null>(null);
  const [text, setText] = useState("");
  const action = useAction();
  const close = () => (setAsk(null), setText(""));
  return (
    <div class="buttons">
      {asksOf(task).map((each) => <button key={each.title} type="button" onClick={() => setAsk(each)}>{each.title}</button>)}
      {task.status === "pending" && task.priority > 1 && <button type="button" disabled={action.busy} onClick={() => void action.run("task_edit", { id: String(task.id), priority: 1 })}>Move to the front</button>}
      {ask === null && <Trouble error={action.error} />}
      {ask !== null && (
        <Dialog title={`${ask.title}: #${task.id}`} onClose={close}>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              void action.run(ask.name, { id: String(task.id), ...ask.input, ...(text.trim() === "" ? {} : { reason: text.trim() }) }, close);
            }}
          >
            {ask.warning !== undefined && <p>{ask.warning}</p>}
            <label>{ask.label}{ask.required ? "" : " (optional)"} <textarea name="reason" rows={3} required={ask.required} value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
            <Trouble error={action.error} />
            <div class="buttons"><button class="is-main" disabled={action.busy}>{ask.title}</button><button type="button" onClick={close}>Not now</button></div>
          </form>
        </Dialog>
      )}
    </div>
  );
}

function HistorySection({ id }: { id: string }) {
  const { data, document, error } = useQuery<readonly Transition[]>("history", { id });
  const broken = document?.broken_at ?? null;
  const checked = document === null ? null : broken === null ? <span class="quiet">✓ hash chain whole</span> : <span class="trouble">the chain breaks at entry {broken}: pawl doctor --deep</span>;
  return (
    <Section title="History" aside={checked}>
      <Trouble error={error} />
      <ol class="history">
        {(data ?? []).map((entry) => (
          <li key={entry.seq}>
            <span class="history-at"><time dateTime={entry.at}>{local(entry.at)}</time></span>
            <span><b>{entry.event.replaceAll("_", " ")}</b>{entry.to_status !== null && entry.to_status !== entry.from_status ? ` → ${entry.to_status.replace("_", " ")}` : ""} by {entry.actor}</span>
            {entry.reason !== null && <span class="history-reason">{entry.reason}</span>}
          </li>
        ))}
      </ol>
    </Section>
  );
}
