// The stores a test runs on, each in a temporary folder of its own that goes when the test ends.
// PAWL_TEST_STORES=memory,json narrows them.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { openState, type State, type StateOptions } from "../src/state.ts";

export type TestStore = {
  readonly name: string;
  /** Opens a new state; it is closed and removed at the end of the test. */
  open(t: TestContext, options?: StateOptions): Promise<State>;
};

const FILES: { readonly [name: string]: string } = { memory: ":memory:", json: "state.json", sqlite: "state.db" };

const wanted = (process.env["PAWL_TEST_STORES"] ?? Object.keys(FILES).join(",")).split(",").map((name) => name.trim());

export const STORES: readonly TestStore[] = wanted.map((name) => {
  const file = FILES[name];
  if (file === undefined) throw new Error(`PAWL_TEST_STORES: there is no store "${name}", only ${Object.keys(FILES).join(", ")}.`);
  return { name, open: (t, options) => open(t, file, options) };
});

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
