// What is remembered: searched, with where it comes from and how sure it still is.
import { useState } from "preact/hooks";
import type { Memory } from "../src/core/memory.ts";
import { Section, Trouble, When } from "./parts.tsx";
import { useQuery } from "./query.ts";
import { go, route } from "./route.ts";

type Found = Memory & { readonly effective_confidence?: number };

export function MemoryPage() {
  const asked = route.value.query.get("q") ?? "";
  const [text, setText] = useState(asked);
  const search = useQuery<readonly Found[]>("memory_search", asked === "" ? null : { query: asked });
  const all = useQuery<readonly Found[]>("memory_list", asked === "" ? {} : null);
  const { data, error } = asked === "" ? all : search;
  return (
    <>
      <h1>Memory</h1>
      <form
        class="filter"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          go(text.trim() === "" ? "/memory" : `/memory?q=${encodeURIComponent(text.trim())}`);
        }}
      >
        <label>Search <input type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} /></label>
        <button>Search</button>
      </form>
      <Trouble error={error} />
      {data?.length === 0 && <p class="none">{asked === "" ? "Nothing is remembered yet: pawl memory store ENTITY ATTRIBUTE VALUE" : "Nothing fits."}</p>}
      <ul class="plain">
        {data?.map((memory) => (
          <li key={memory.id}>
            <Section title={`${memory.entity} · ${memory.attribute}`} aside={<span class="quiet">{memory.id}</span>}>
              <p>{typeof memory.value === "string" ? memory.value : JSON.stringify(memory.value)}</p>
              <p class="quiet">
                {memory.source}, {Math.round((memory.effective_confidence ?? memory.confidence) * 100)} % sure · <When at={memory.created_at} />
              </p>
            </Section>
          </li>
        ))}
      </ul>
    </>
  );
}
