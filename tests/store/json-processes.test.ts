// Several real processes on one JSON state: nothing acknowledged is lost whoever is killed, everyone has their turn, and a
// process that is stopped stops nobody else.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { sleep, systemClock } from "../../src/base/clock.ts";
import { child, increment, placeFor, quarantined, setCounter, titles, viewed } from "./json-place.ts";

test("many processes count together exactly", async (t) => {
  const place = placeFor(t);
  const store = await place.open();
  await store.commit([{ puts: [setCounter("c", 0)] }]);
  const children = Array.from({ length: 6 }, () => child("count", place, 300));
  for (const each of children) assert.equal(await each.ended, 0);
  assert.equal((await store.get("counter", ["c"]))[0]?.["n"], 1_800);
  await store.close();
  assert.equal((await (await place.open()).get("counter", ["c"]))[0]?.["n"], 1_800);
  assert.deepEqual(quarantined(place), []);
});

test("hazard 21: twenty processes that write without a pause: everyone has their turn", async (t) => {
  const place = placeFor(t);
  const store = await place.open();
  await store.commit([{ puts: [setCounter("c", 0)] }]);
  const children = Array.from({ length: 20 }, () => child("count", place, 100));
  for (const each of children) assert.equal(await each.ended, 0);
  const longest = children.map(({ lines }) => Number(lines.find((line) => line.startsWith("longest "))!.split(" ")[1])).sort((a, b) => a - b);
  t.diagnostic(`longest wait of a commit over 20 processes: median ${longest[10]} ms, worst ${longest[19]} ms`);
  assert.ok(longest[19]! < 5_000);
  assert.equal((await store.get("counter", ["c"]))[0]?.["n"], 2_000);
});

test("whatever was acknowledged before a kill -9 is there afterwards", async (t) => {
  const place = placeFor(t);
  const acknowledged: string[] = [];
  for (let round = 0; round < 12; round++) {
    const children = [child("add", place), child("add", place), child("add", place)];
    await Promise.all(children.map(({ process, lines }) => until(() => lines.length > 0 || process.exitCode !== null)));
    for (const { process, ended } of children) {
      await sleep(systemClock, Math.random() * 60);
      process.kill("SIGKILL");
      await ended;
    }
    acknowledged.push(...children.flatMap(({ lines }) => lines));
    const store = await place.open({}, viewed);
    const there = new Set(await titles(store));
    assert.deepEqual(acknowledged.filter((title) => !there.has(title)), []);
    await store.close();
  }
  t.diagnostic(`${acknowledged.length} acknowledged changes, 36 kills, ${quarantined(place).length} torn tails, ${readdirSync(join(place.dir, "journal")).length} segments`);
  assert.ok(acknowledged.length > 100);
  assert.deepEqual(quarantined(place).filter((name) => name.startsWith("edited")), [], "no view was taken for an edit");
});

test("hazard 21: Ctrl-Z never stops a process that holds the lock", { skip: process.platform === "win32" && "no such signal" }, async (t) => {
  const place = placeFor(t);
  const store = await place.open();
  await store.commit([{ puts: [setCounter("c", 0)] }]);
  const busy = child("count", place, 1_000_000);
  t.after(() => busy.process.kill("SIGKILL"));
  await busy.line("ready");
  let longest = 0;
  for (let i = 0; i < 100; i++) {
    await sleep(systemClock, Math.random() * 4);
    busy.process.kill("SIGTSTP");
    await sleep(systemClock, 2);
    const start = performance.now();
    await store.commit([increment("c")]);
    longest = Math.max(longest, performance.now() - start);
    busy.process.kill("SIGCONT");
  }
  t.diagnostic(`longest wait beside a process stopped 100 times: ${longest.toFixed(1)} ms`);
  assert.ok(longest < 1_000, `${longest} ms`);
  const before = Number((await store.get("counter", ["c"]))[0]?.["n"]);
  // On a slow machine the last stop may come after its SIGCONT: it is sent until the process goes on.
  await until(async () => busy.process.kill("SIGCONT") && Number((await store.get("counter", ["c"]))[0]?.["n"]) > before);
  busy.process.kill("SIGKILL");
  await busy.ended;
});

test("a watcher hears of its own changes and of another process's", async (t) => {
  const place = placeFor(t);
  const store = await place.open({}, viewed);
  let heard = 0;
  const stop = store.watch(() => heard++);
  for (let i = 0; i < 50; i++) await store.commit([increment("none"), { puts: [setCounter("c", i)] }]);
  assert.equal(heard, 0, "never while committing");
  await until(() => heard > 0);
  await sleep(systemClock, 50);
  const before = heard;
  const other = child("once", place);
  assert.equal(await other.ended, 0);
  await until(() => heard > before);
  stop();
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 2_000; i++) {
    if (await condition()) return;
    await sleep(systemClock, 5);
  }
  assert.fail("it did not happen within ten seconds");
}
