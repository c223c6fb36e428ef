// What a worker's module may export, and what is said of everything else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isPawlError } from "../../src/base/errors.ts";
import { commandExecutor } from "../../src/worker/command.ts";
import { defineWorker, handlersOf } from "../../src/worker/module.ts";

const execute = async () => "done";
const named = (exported: unknown, queues: readonly string[] | null = null) =>
  [...handlersOf(exported, queues, "w.ts")].map(([queue, { executor, verifier, concurrency }]) => [queue, executor.name, verifier?.name ?? null, concurrency ?? null]);

test("a function, an object with one, one for each queue, an executor made elsewhere", () => {
  assert.deepEqual(named(execute), [["default", "function", null, null]]);
  assert.deepEqual(named(execute, ["a", "b"]), [["a", "function", null, null], ["b", "function", null, null]]);
  assert.deepEqual(named({ execute, verify: () => true, concurrency: 3 }), [["default", "function", "function", 3]]);
  const queues = defineWorker({ queues: { mail: { execute, concurrency: 4 }, pdf: execute, cmd: { execute: commandExecutor({ command: "true", cwd: "." }) } } });
  assert.deepEqual(named(queues), [["mail", "function", null, 4], ["pdf", "function", null, null], ["cmd", "command: true", null, null]]);
  assert.deepEqual(named(queues, ["pdf"]), [["pdf", "function", null, null]]);
});

const BAD: readonly (readonly [unknown, RegExp])[] = [
  [3, /its default export must be a function .*, not number 3/],
  [null, /not null/],
  ["execute", /not string execute/],
  [[execute], /not a list/],
  [{}, /its default export\.execute must be a function, .*, not nothing/],
  [{ execute: "./work.sh" }, /execute must be a function/],
  [{ execute: { name: "x" } }, /not an object/],
  [{ execute, verify: true }, /verify must be a function/],
  [{ execute, concurrency: 0 }, /concurrency must be a whole number of at least 1, not number 0/],
  [{ execute, concurrency: 1.5 }, /concurrency/],
  [{ execute, mail: execute }, /a field "mail", which means nothing/],
  [{ queues: {} }, /a handler for each queue, not an empty one/],
  [{ queues: [execute] }, /a handler for each queue, not a list/],
  [{ queues: { mail: {} } }, /queues\.mail\.execute must be a function/],
  [{ queues: { mail: { exec: execute } } }, /queues\.mail has a field "exec"/],
  [{ queues: { mail: null } }, /queues\.mail must be a function .* not null/],
];

test("anything else is refused with its place", () => {
  for (const [exported, message] of BAD) assert.throws(() => handlersOf(exported, null, "w.ts"), (error) => isPawlError(error, "usage") && message.test(error.message) && error.next !== "", String(message));
  assert.throws(() => handlersOf({ queues: { mail: execute } }, ["mail", "pdf"], "w.ts"), (error) => isPawlError(error, "usage") && /no handler for the queue "pdf"/.test(error.message) && error.next === "It handles: mail.");
});
