// Batches with their progress, and one batch with its items.
import type { Batch } from "../src/core/records.ts";
import type { BatchSummary } from "../src/core/batch.ts";
import type { Status } from "../src/core/records.ts";
import { Badge, Meter, Section, Trouble, Value, When } from "./parts.tsx";
import { useQuery } from "./query.ts";

type Detail = { readonly batch: Batch; readonly summary: BatchSummary; readonly items: readonly { readonly position: number; readonly name: string; readonly task_id: number; readonly status: Status }[] };

export function BatchList() {
  const { data, error } = useQuery<readonly Batch[]>("batch_list", { limit: 100 });
  return (
    <>
      <h1>Batches</h1>
      <Trouble error={error} />
      {data?.length === 0 && <p class="none">No batch. A list becomes one: <code>pawl run tasks.txt</code></p>}
      <ul class="plain">{data?.map((batch) => <li key={batch.id}><BatchLine batch={batch} /></li>)}</ul>
    </>
  );
}

function BatchLine({ batch }: { batch: Batch }) {
  const { data } = useQuery<Detail>("batch_show", { id: batch.id });
  return (
    <Section title={batch.id} aside={<When at={batch.created_at} />}>
      <p class="quiet">{batch.source ?? "made by a program"}</p>
      {data !== null && <Progress id={batch.id} summary={data.summary} />}
      <p><a href={`/batches/${batch.id}`} aria-label={`Items of ${batch.id}`}>Items</a> · <a href={`/?batch=${batch.id}`} aria-label={`${batch.id} on the board`}>On the board</a></p>
    </Section>
  );
}

function Progress({ id, summary }: { id: string; summary: BatchSummary }) {
  const others = (["failed", "waiting", "blocked", "review", "cancelled"] as const).filter((name) => summary[name] > 0).map((name) => `${summary[name]} ${name}`);
  return <Meter label="Progress" of={id} value={summary.completed} max={summary.total} note={`${summary.completed} of ${summary.total} completed (${summary.progress_percent} %)${others.length === 0 ? "" : `, ${others.join(", ")}`}`} />;
}

export function BatchPage({ id }: { id: string }) {
  const { data, error } = useQuery<Detail>("batch_show", { id });
  return (
    <>
      <h1>{id}</h1>
      <Trouble error={error} />
      {data !== null && (
        <>
          <Progress id={id} summary={data.summary} />
          <Section title="What it remembers"><Value value={{ source: data.batch.source, executor: data.batch.executor, verifier: data.batch.verifier, limits: data.batch.limits, tokens: data.batch.tokens }} /></Section>
          <Section title="Items">
            <ol class="items">
              {data.items.map((item) => <li key={item.position}><Badge status={item.status} /> <a href={`/tasks/${item.task_id}`}>{item.name}</a></li>)}
            </ol>
          </Section>
        </>
      )}
    </>
  );
}
