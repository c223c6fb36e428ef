// Calls that a text of the server names, as pages: read from any text without an error.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { callsIn } from "../../web/calls.ts";

const pathsIn = (text: string) => callsIn(text).flatMap((piece) => (typeof piece === "string" ? [] : [piece.page?.path ?? null]));
const saidIn = (text: string) => callsIn(text).map((piece) => (typeof piece === "string" ? piece : piece.call)).join("");

test("a call leads to the page that has its button", () => {
  assert.deepEqual(pathsIn("See: GET /api/why?id=7. Then: POST /api/task_retry {\"id\":7}."), ["/tasks/7", "/tasks/7"]);
  assert.deepEqual(pathsIn("GET /api/task_list, GET /api/decision_inbox, POST /api/doctor {\"repair\":true}"), ["/", "/inbox", null]);
  assert.deepEqual(pathsIn("GET /api/batch_show?id=a%20b."), ["/batches/a%20b"]);
});

test("a call whose input holds braces or quotes, or cannot be read, breaks nothing", () => {
  const braces = 'Try: POST /api/batch_cancel {"id":"queue:{x}","reason":"a \\"}\\" b"}. Then wait.';
  assert.deepEqual(callsIn(braces), ["Try: ", { call: braces.slice(5, -12), page: { path: "/batches/queue%3A%7Bx%7D", name: "queue:{x}" } }, ". Then wait."]);
  for (const [text, path] of [["GET /api/batch_show?id=100%.", "/batches"], ["GET /api/why?id=%E2%80", "/"], ['POST /api/task_retry {"id":}', "/"], ['POST /api/task_retry {"id":3', "/"], ['POST /api/task_retry {"id":"\\ud800"}', "/tasks/%EF%BF%BD"], ["POST /api/task_retry {7}", "/"], ['POST /api/task_retry {"a":{"id":1}}', "/"]] as const) {
    assert.deepEqual(pathsIn(text), [path], text);
  }
});

test("whatever the text, nothing is thrown and nothing of it is lost", () => {
  const piece = fc.oneof(fc.constantFrom("GET /api/why?id=", "POST /api/task_retry ", '{"id":', "{", "}", '"', "\\", "%", "\\ud800", "7", ". "), fc.string({ unit: "binary", maxLength: 4 }));
  fc.assert(fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => assert.equal(saidIn(pieces.join("")), pieces.join(""))), { numRuns: 2_000 });
});
