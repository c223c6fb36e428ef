// People are told of decisions that wait for them: once each, and once more when one is escalated, however many processes
// watch; by a command without a shell or by a webhook; and one that fails is recorded and stops nothing.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { askForAction } from "../../src/core/approval.ts";
import type { Decision } from "../../src/core/records.ts";
import { hookOf, watchDecisions } from "../../src/worker/notify.ts";
import { simulate } from "../simulation.ts";
import { STORES } from "../stores.ts";

const action = askForAction({ tool: "rm", arguments: { path: "$(touch pwned) `x` ;" }, risk: "write_local" }, 1, { expires_in_ms: 60_000, on_expiry: "escalate" });

for (const store of STORES) {
  test(`${store.name}: two watchers tell of each decision once, and again when it is escalated`, async (t) => {
    const sim = await simulate(t, store);
    const told: string[] = [];
    const hook = ({ id, escalated_at }: Decision) => void told.push(`${id}${escalated_at ? " again" : ""}`);
    for (const description of ["a", "b"]) await sim.state.tasks.add({ description });
    sim.start(async (_, { decide }) => (await decide("act", action)).status, { concurrency: 2 });
    await sim.untilTrue(async () => (await sim.state.decisions.inbox()).length === 2);
    // Both see both decisions before either has told of one.
    const watches = [watchDecisions(sim.state, hook), watchDecisions(sim.state, hook)];
    await sim.untilTrue(() => told.length === 2);
    sim.clock.jump(60_000);
    await sim.untilTrue(() => told.length === 4);
    await sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" });
    await Promise.all(watches.map((watch) => watch.stop()));
    assert.deepEqual(told.toSorted(), ["d1", "d1 again", "d2", "d2 again"]);
  });
}

test("a hook that fails is recorded with the decision; the task goes on as if there were none", async (t) => {
  const sim = await simulate(t);
  const notices: string[] = [];
  const watch = watchDecisions(sim.state, () => { throw new Error("no \0 network"); }, (line) => notices.push(line));
  const { id } = await sim.state.tasks.add({ description: "a" });
  sim.start(async (_, { approve }) => approve("go", "Go?"));
  await sim.untilTrue(async () => (await sim.state.decisions.inbox())[0]?.notify_error === "no  network");
  assert.deepEqual(notices, ["Nobody could be told of decision d1: no  network"]);
  await sim.state.decisions.settle("d1", { answer: "approve", actor: "bob" });
  assert.equal((await sim.until(id)).status, "completed");
  await watch.stop();
});

test("a command gets the decision on standard input, and nothing of it becomes a command", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "pawl-notify-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const script = join(folder, "tell me.mjs");
  await writeFile(script, 'import { readFileSync, writeFileSync } from "node:fs"; writeFileSync(process.argv[2], process.env.PAWL_DECISION_ID + readFileSync(0, "utf8"));');
  const decision = { id: "d7", question: "; touch pwned", details: { arguments: "$(touch pwned)" } } as unknown as Decision;
  await hookOf(`${process.execPath} '${script}' said.txt`, folder)(decision);
  assert.equal(await readFile(join(folder, "said.txt"), "utf8"), `d7${JSON.stringify(decision)}`);
  await assert.rejects(async () => hookOf(`${process.execPath} -e 'console.error("it broke"); process.exit(3)'`)(decision), /it broke/);
  await assert.rejects(async () => hookOf("./no-such-program")(decision), /ENOENT/);
  await hookOf("true")({ ...decision, details: "x".repeat(1 << 20) }); // which reads nothing of it
  assert.throws(() => hookOf("  "), { code: "usage" });
});

test("a webhook is posted to; an answer that is no success, and a way elsewhere, are failures", async (t) => {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk)).on("end", () => {
      bodies.push(body);
      if (request.url === "/elsewhere") response.writeHead(302, { location: "/ok" });
      else response.writeHead(request.url === "/ok" ? 204 : 500);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const decision = { id: "d7" } as Decision;
  await hookOf(`${at}/ok`)(decision);
  await assert.rejects(async () => hookOf(`${at}/broken`)(decision), /answered 500/);
  await assert.rejects(async () => hookOf(`${at}/elsewhere`)(decision));
  assert.deepEqual(bodies, Array(3).fill(JSON.stringify(decision)));
});
