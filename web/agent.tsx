// Agents: goal, plan, facts, questions, what was spent, and every patch.
import type { AgentView } from "../src/core/agent.ts";
import type { Resource } from "../src/core/budget.ts";
import type { PatchRecord } from "../src/core/patch.ts";
import { Meter, Section, Trouble, Value, When } from "./parts.tsx";
import { useQuery } from "./query.ts";
import { duration } from "./time.ts";

export function AgentList() {
  const { data, error } = useQuery<readonly AgentView["agent"][]>("agent_list", {});
  return (
    <>
      <h1>Agents</h1>
      <Trouble error={error} />
      {data?.length === 0 && <p class="none">No agent. A model works a task with <code>pawl run tasks.txt --model …</code></p>}
      <ul class="plain">
        {data?.map((agent) => (
          <li key={agent.task_id}>
            <Section title={agent.goal} aside={<When at={agent.updated_at} />}>
              <p><a href={`/tasks/${agent.task_id}`}>task #{agent.task_id}</a> · revision {agent.revision}{agent.model === null ? "" : ` · ${agent.model}`}</p>
            </Section>
          </li>
        ))}
      </ul>
    </>
  );
}

/** The agent of a task that has one. */
export function AgentSection({ id }: { id: string }) {
  const { data: view } = useQuery<AgentView>("agent_show", { id });
  if (view === null) return null;
  const { state, agent } = view;
  return (
    <>
      <Section title="Agent" aside={<span class="quiet">revision {agent.revision}{agent.model === null ? "" : ` · ${agent.model}`}</span>}>
        <p>{state.goal}</p>
        {state.risk_flags.length > 0 && <p class="flags">{state.risk_flags.map((flag) => <span key={flag} class="badge is-waiting">{flag}</span>)}</p>}
        <h3>Plan</h3>
        {state.plan.length === 0 ? <p class="none">No plan yet.</p> : <ol>{state.plan.map((entry, i) => <li key={i}>{entry}</li>)}</ol>}
        <h3>Facts</h3>
        {state.known_facts.length === 0 ? <p class="none">None.</p> : (
          <dl class="facts">
            {state.known_facts.map((fact, i) => (
              <div key={i}>
                <dt>{fact.key}</dt>
                <dd>{typeof fact.value === "string" ? fact.value : JSON.stringify(fact.value)} <span class="quiet">({fact.source}{fact.confidence === undefined ? "" : `, ${Math.round(fact.confidence * 100)} %`})</span></dd>
              </div>
            ))}
          </dl>
        )}
        {state.open_questions.length > 0 && <><h3>Open questions</h3><ul>{state.open_questions.map((question) => <li key={question}>{question}</li>)}</ul></>}
        {state.artifacts.length > 0 && <><h3>Artifacts</h3><ul>{state.artifacts.map((artifact) => <li key={artifact.artifact_id}>{artifact.type}: {artifact.summary} <span class="quiet">{artifact.bytes} bytes</span></li>)}</ul></>}
      </Section>
      <BudgetSection view={view} />
      <Patches id={id} />
    </>
  );
}

/** As people call them, and count them. */
const RESOURCES: { readonly [resource in Resource]: { readonly label: string; readonly text: (n: number) => string } } = {
  steps: { label: "steps", text: whole }, wall_time_ms: { label: "working time", text: duration }, llm_tokens: { label: "tokens", text: whole }, tool_calls: { label: "tool calls", text: whole },
  cost_micros: { label: "cost", text: (n) => (n / 1_000_000).toFixed(2) },
};

function whole(n: number): string {
  return n.toLocaleString();
}

function BudgetSection({ view }: { view: AgentView }) {
  const bars = (Object.keys(RESOURCES) as Resource[]).flatMap((resource) => {
    const { label, text } = RESOURCES[resource];
    const { limit, spent, reserved, in_doubt } = view.spend[resource];
    const used = spent + reserved + in_doubt;
    if (limit === null) return [];
    const apart = [reserved > 0 ? `${text(reserved)} reserved` : "", in_doubt > 0 ? `${text(in_doubt)} in doubt` : ""].filter((part) => part !== "");
    return [<Meter key={resource} label={label} value={used} max={limit} note={[`${text(used)} of ${text(limit)}`, ...apart].join(", ")} />];
  });
  if (bars.length === 0) return null;
  return (
    <Section title="Budget">
      {bars}
      {view.spend.unpriced_calls > 0 && <p class="quiet">{view.spend.unpriced_calls} calls went to models without a price: what they cost is not known.</p>}
    </Section>
  );
}

function Patches({ id }: { id: string }) {
  const { data, error } = useQuery<readonly PatchRecord[]>("agent_history", { id });
  return (
    <Section title="Patches">
      <Trouble error={error} />
      {data?.length === 0 && <p class="none">None yet.</p>}
      <ol class="patches">
        {data?.map((patch) => (
          <li key={patch.revision}>
            <details><summary>revision {patch.revision} by {patch.author} <When at={patch.at} />{patch.reason === null ? "" : `: ${patch.reason}`}</summary><Value value={patch.delta} /></details>
          </li>
        ))}
      </ol>
    </Section>
  );
}
