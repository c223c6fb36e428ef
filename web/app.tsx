// The frame around every page: navigation, the state of the connection, keys.
import { useEffect, useState } from "preact/hooks";
import { AddTask } from "./add.tsx";
import { AgentList } from "./agent.tsx";
import { hasToken, keepToken } from "./api.ts";
import { BatchList, BatchPage } from "./batches.tsx";
import { Board } from "./board.tsx";
import { Inbox } from "./inbox.tsx";
import { connected, counts, follow, refused } from "./live.ts";
import { MemoryPage } from "./memory.tsx";
import { Dialog } from "./parts.tsx";
import { go, route } from "./route.ts";
import { TaskPage } from "./task.tsx";

const PAGES = [
  { path: "/", page: "board", name: "Tasks", key: "t" },
  { path: "/inbox", page: "inbox", name: "Inbox", key: "i" },
  { path: "/batches", page: "batches", name: "Batches", key: "b" },
  { path: "/agents", page: "agents", name: "Agents", key: "g" },
  { path: "/memory", page: "memory", name: "Memory", key: "m" },
] as const;

export function App() {
  const [open, setOpen] = useState<"add" | "keys" | null>(null);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.metaKey || event.ctrlKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
      const page = PAGES.find(({ key }) => key === event.key);
      if (page) go(page.path);
      else if (event.key === "a") setOpen("add");
      else if (event.key === "?") setOpen("keys");
      else if (event.key === "/") document.getElementById("find")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  if (!hasToken() || refused.value) return <TokenPage />;
  const { page } = route.value;
  const decisions = counts.value?.decisions ?? 0;
  return (
    <>
      <a class="skip" href="#content">To the content</a>
      <header class="top">
        <nav aria-label="Pages">
          {PAGES.map(({ path, page: name, name: label, key }) => (
            <a key={path} href={path} aria-current={page === name || (name === "board" && page === "tasks") ? "page" : undefined} aria-keyshortcuts={key}>
              {label}
              {name === "inbox" && decisions > 0 && <span class="count is-warning">{decisions}</span>}
            </a>
          ))}
        </nav>
        <form
          class="find"
          role="search"
          onSubmit={(event) => {
            event.preventDefault();
            const field = event.currentTarget.elements.namedItem("ref") as HTMLInputElement;
            const ref = field.value.trim().replace(/^#/, "");
            if (ref !== "") go(`/tasks/${encodeURIComponent(ref)}`);
            field.value = "";
          }}
        >
          <input id="find" name="ref" aria-label="Go to a task by its id or key" placeholder="id or key" />
        </form>
        <button type="button" onClick={() => setOpen("add")} aria-keyshortcuts="a">Add</button>
        <span class={`live${connected.value ? " is-on" : ""}`} role="status">{connected.value ? "live" : "not connected"}</span>
      </header>
      <main id="content">
        <Page />
      </main>
      {open === "add" && <AddTask onClose={() => setOpen(null)} />}
      {open === "keys" && <Keys onClose={() => setOpen(null)} />}
    </>
  );
}

function Page() {
  const { page, id } = route.value;
  useEffect(() => {
    document.title = `${page === "tasks" && id !== null ? `task ${id}` : page} · Pawl`;
  }, [page, id]);
  if (page === "tasks" && id !== null) return <TaskPage key={id} id={id} />;
  if (page === "batches") return id === null ? <BatchList /> : <BatchPage key={id} id={id} />;
  if (page === "inbox") return <Inbox />;
  if (page === "agents") return <AgentList />;
  if (page === "memory") return <MemoryPage />;
  if (page === "board" || page === "tasks") return <Board />;
  return <p class="none">There is no such page. <a href="/">To the tasks</a></p>;
}

function TokenPage() {
  return (
    <main class="token">
      <h1>Pawl</h1>
      <p>This page needs the token of its state. <code>pawl ui</code> prints an address that has it; the file is named with <code>pawl ui --json</code>.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          keepToken((event.currentTarget.elements.namedItem("token") as HTMLInputElement).value);
          refused.value = false;
          follow();
          go(location.pathname, "replace");
        }}
      >
        <label>Token <input name="token" type="password" autocomplete="off" required pattern="[0-9a-f]{64}" /></label>
        <button>Open</button>
      </form>
    </main>
  );
}

function Keys({ onClose }: { onClose: () => void }) {
  const keys = [...PAGES.map(({ key, name }) => [key, name]), ["a", "Add a task"], ["/", "Go to a task"], ["↓ ↑ or j k", "From row to row"], ["Enter", "Open"], ["Ctrl+Enter", "Send a form"], ["?", "These keys"]];
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">{keys.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <form method="dialog"><button>Close</button></form>
    </Dialog>
  );
}

/** True where a key is a letter of a text. */
function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
