// The stores a test runs on, each in a temporary folder of its own that goes when the test ends.
// PAWL_TEST_STORES=memory,json narrows them. On Postgres the clock is the server's, so tests that move one do not run there.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { openState, type State, type StateOptions } from "../src/state.ts";
import { statePlace } from "./places.ts";

export type TestStore = {
  readonly name: string;
  /** Opens a new state; it is closed and removed at the end of the test. */
  open(t: TestContext, options?: StateOptions): Promise<State>;
};

const FILES: { readonly [name: string]: string } = { memory: ":memory:", json: "state.json", sqlite: "state.db" };

const wanted = (process.env["PAWL_TEST_STORES"] ?? Object.keys(FILES).join(",")).split(",").map((name) => name.trim());

const POSTGRES: TestStore = { name: "postgres", open: async (t, options) => (await statePlace(t, "postgres")).open(options) };

export const STORES: readonly TestStore[] = wanted.map((name) => {
  if (name === "postgres") return POSTGRES;
  const file = FILES[name];
  if (file === undefined) throw new Error(`PAWL_TEST_STORES: there is no store "${name}", only ${Object.keys(FILES).join(", ")}, postgres.`);
  return { name, open: (t, options) => open(t, file, options) };
});

/** Those and Postgres, for tests that move no clock. */
export const ALL_STORES: readonly TestStore[] = process.env["PAWL_TEST_STORES"] === undefined ? [...STORES, POSTGRES] : STORES;

/** The store of tests that need no other. */
export const MEMORY: TestStore = { name: "memory", open: (t, options) => open(t, ":memory:", options) };

async function open(t: TestContext, file: string, options: StateOptions = {}): Promise<State> {
  const folder = file === ":memory:" ? null : await mkdtemp(join(tmpdir(), "pawl-test-"));
  const state = await openState(folder === null ? file : join(folder, file), { actor: "ann", notice: () => undefined, ...options });
  t.after(async () => {
    await state.close();
    if (folder !== null) await rm(folder, { recursive: true, force: true });
  });
  return state;
}
