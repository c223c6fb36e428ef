// Promise 1 on a disk that is full: a run ends with a clear error, nothing acknowledged is gone, and with room it goes on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fillDisk, whyNoFullDisk } from "./fulldisk.ts";

const skip = whyNoFullDisk() ?? false;

for (const file of ["state.json", "state.db"]) {
  test(`a run on a full disk ends with a clear error and goes on when there is room: ${file}`, { skip, timeout: 400_000 }, async (t) => {
    const { code, said, acknowledged, violations } = await fillDisk({ file });
    t.diagnostic(`${acknowledged} tasks were acknowledged before the disk was full`);
    assert.deepEqual(violations, []);
    assert.equal(code, 8, said);
    assert.match(said, /^error: .*(?:no space left|disk is full).*\nnext: /m);
    assert.ok(acknowledged > 0 && acknowledged < 60, "the disk was full in the middle of the run");
  });
}
