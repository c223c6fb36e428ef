// What a person must settle, with exactly what it is about. Arguments of an action can be edited before they are approved:
// what runs is what stands here when it is.
import { useState } from "preact/hooks";
import type { Decision } from "../src/core/records.ts";
import { Section, Trouble, useAction, Value, When } from "./parts.tsx";
import { useQuery } from "./query.ts";

export function Inbox() {
  const { data, error } = useQuery<readonly Decision[]>("decision_inbox", {});
  return (
    <>
      <h1>Inbox</h1>
      <Trouble error={error} />
      {data?.length === 0 && <p class="none">Nothing waits for a person.</p>}
      {data?.map((decision) => <Item key={decision.id} decision={decision} />)}
    </>
  );
}

const KINDS: { readonly [kind: string]: string } = {
  action: "an action", approval: "an approval", question: "a question", unknown_effect: "an unknown effect", step_changed: "a changed step", review: "a review", budget: "a budget",
};

function Item({ decision }: { decision: Decision }) {
  const action = useAction();
  const details = decision.details as { readonly [name: string]: unknown } | null;
  const given = JSON.stringify(details?.["arguments"] ?? null, null, 2);
  const [edited, setEdited] = useState(given);
  const [text, setText] = useState("");
  const [bad, setBad] = useState<string | null>(null);
  const isAction = decision.kind === "action";
  const settle = (name: string, input: object) => void action.run(name, { id: decision.id, ...input, ...(text.trim() === "" || name === "decision_answer" ? {} : { reason: text.trim() }) });
  const approve = () => {
    if (!isAction || edited === given) return settle("decision_approve", {});
    try {
      setBad(null);
      settle("decision_approve", { edit: JSON.parse(edited) as unknown });
    } catch {
      setBad("This is not valid JSON.");
    }
  };
  const answers = Object.entries((decision.options ?? {}) as { readonly [answer: string]: string });
  const id = (part: string) => `${decision.id}-${part}`;
  return (
    <Section title={decision.question} aside={<span class="quiet">{decision.id} · {KINDS[decision.kind] ?? decision.kind}</span>}>
      <p class="quiet">
        {decision.task_id !== null && <><a href={`/tasks/${decision.task_id}`}>task #{decision.task_id}</a> · </>}asked by {decision.asked_by} <When at={decision.created_at} />
        {decision.expires_at !== null && <> · until <When at={decision.expires_at} /></>}
      </p>
      {isAction ? (
        <>
          <dl class="facts"><div><dt>tool</dt><dd>{String(details?.["tool"])}</dd></div><div><dt>risk</dt><dd>{String(details?.["risk"])}</dd></div></dl>
          <label for={id("arguments")}>Arguments{edited === given ? "" : " (edited)"}</label>
          <textarea id={id("arguments")} class="code" rows={Math.min(given.split("\n").length + 1, 20)} value={edited} spellcheck={false} onInput={(event) => setEdited(event.currentTarget.value)} />
        </>
      ) : (
        decision.details !== null && <Value value={decision.details} />
      )}
      {bad !== null && <p class="trouble" role="alert">{bad}</p>}
      <Trouble error={action.error} />
      <label for={id("text")}>{decision.kind === "question" ? "Answer" : "Reason"}</label>
      <input id={id("text")} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <div class="buttons">
        {decision.kind === "question" ? (
          <button type="button" class="is-main" disabled={action.busy || text.trim() === ""} onClick={() => settle("decision_answer", { answer: text.trim() })}>Answer</button>
        ) : (
          answers.map(([answer, does]) =>
            answer === "approve" ? (
              <button key={answer} type="button" class="is-main" title={does} disabled={action.busy} onClick={approve}>{edited === given ? "Approve" : "Approve as edited"}</button>
            ) : answer === "deny" ? (
              <button key={answer} type="button" title={does} disabled={action.busy || text.trim() === ""} onClick={() => settle("decision_deny", {})}>Deny</button>
            ) : (
              <button key={answer} type="button" disabled={action.busy} onClick={() => settle("decision_answer", { answer })}>{answer}: {does}</button>
            ),
          )
        )}
      </div>
      {answers.some(([answer]) => answer === "deny") && text.trim() === "" && <p class="quiet">To deny it, say why.</p>}
    </Section>
  );
}
