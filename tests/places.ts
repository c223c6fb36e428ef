// A place for a state on each of the stores, opened as often as a test likes, in this process or in others: what one handle
// did, the next must find. Everything is closed and removed when the test ends. The memory store has one handle.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { openState, type State, type StateOptions } from "../src/state.ts";
import { dropSchema, inSchema, newSchema, postgresUrl } from "./postgres.ts";

export type StatePlace = { readonly url: string; open(options?: StateOptions): Promise<State> };

async function urlOf(t: TestContext, name: string): Promise<string> {
  if (name === "memory") return ":memory:";
  if (name === "postgres") {
    const url = await postgresUrl();
    const schema = newSchema();
    t.after(() => dropSchema(url, schema));
    // Tables of a test's own are in the schema too, and go with it.
    return inSchema(url, schema, { options: `-c search_path=${schema}` });
  }
  const folder = await mkdtemp(join(tmpdir(), "pawl-place-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return join(folder, name === "json" ? "state.json" : "state.db");
}

/** A new place of the store `name`: memory, json, sqlite or postgres. */
export async function statePlace(t: TestContext, name: string): Promise<StatePlace> {
  const states: State[] = [];
  // Registered before the place's own removal runs: a handle is closed before what it is on goes.
  const closing = async () => void (await Promise.all(states.map((state) => state.close())));
  const url = await urlOf({ after: (remove: () => Promise<unknown>) => t.after(async () => (await closing(), await remove())) } as unknown as TestContext, name);
  if (name === "memory") t.after(closing);
  return {
    url,
    async open(options) {
      const state = await openState(url, { actor: "ann", notice: () => undefined, ...options });
      states.push(state);
      return state;
    },
  };
}

/** Stores whose states outlive a process. */
export const LASTING = ["json", "sqlite", "postgres"] as const;
