// Locks: only one holder, freed by death and by nothing else, and evidence about a lock that never claims too much.
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, existsSync, readdirSync, renameSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { manualClock, sleep, systemClock } from "../../src/base/clock.ts";
import { isPawlError } from "../../src/base/errors.ts";
import { withFileLock } from "../../src/base/fs.ts";
import { systemRandom } from "../../src/base/id.ts";
import { openLock, probeLock, Turn } from "../../src/base/lock.ts";
import { child, placeFor } from "./json-place.ts";

test("two handles in one process exclude each other, and the file is private and stays", (t) => {
  const path = join(placeFor(t).folder, "lock");
  const [a, b] = [openLock(path), openLock(path)];
  assert.equal(a.tryLock(), true);
  assert.equal(b.tryLock(), false);
  a.unlock();
  assert.equal(b.tryLock(), true);
  assert.equal(a.tryLock(), false);
  b.close();
  assert.equal(a.tryLock(), true);
  a.close();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual({ dev: statSync(path).dev, ino: statSync(path).ino }, a.identity);
});

test("the mode of a lock file that is there is left to whoever owns it", (t) => {
  const path = join(placeFor(t).folder, "lock");
  openLock(path).close();
  chmodSync(path, 0o660);
  openLock(path).close();
  assert.equal(statSync(path).mode & 0o777, 0o660);
});

test("a lock and unlock write nothing", (t) => {
  const path = join(placeFor(t).folder, "lock");
  const lock = openLock(path);
  lock.tryLock();
  lock.unlock();
  const before = statSync(path);
  const start = performance.now();
  const rounds = 5_000;
  for (let i = 0; i < rounds; i++) {
    lock.tryLock();
    lock.unlock();
  }
  t.diagnostic(`lock and unlock: ${((performance.now() - start) * 1_000 / rounds).toFixed(1)} µs`);
  assert.equal(statSync(path).mtimeMs, before.mtimeMs);
  lock.close();
});

test("hazard 13: evidence: held while its holder lives, free when it was killed", async (t) => {
  const path = join(placeFor(t).folder, "worker.lock");
  const { identity } = openLock(path);
  const holder = child("hold", { ...placeFor(t), file: path });
  await holder.line("taken true");
  assert.equal(probeLock(path, identity), "held");
  assert.equal(probeLock(path, identity), "held", "the probe did not drop the holder's lock");
  holder.process.kill("SIGKILL");
  await holder.ended;
  assert.equal(probeLock(path, identity), "free");
  assert.equal(probeLock(path, identity), "free", "the probe does not keep the lock");
});

test("hazard 13: evidence within one process: its own lock is held", (t) => {
  const path = join(placeFor(t).folder, "lock");
  const lock = openLock(path);
  lock.tryLock();
  assert.equal(probeLock(path, lock.identity), "held");
  assert.equal(probeLock(path, lock.identity), "held");
  lock.unlock();
  assert.equal(probeLock(path, lock.identity), "free");
  lock.close();
});

test("hazard 13: evidence: a missing, replaced or copied file tells nothing, and nothing is created", (t) => {
  const { folder } = placeFor(t);
  const path = join(folder, "lock");
  assert.equal(probeLock(path, { dev: 1, ino: 1 }), "unknown");
  assert.deepEqual(readdirSync(folder), []);
  const lock = openLock(path);
  lock.tryLock();
  lock.unlock();
  lock.close();
  const copy = join(folder, "copy");
  copyFileSync(path, copy);
  assert.equal(probeLock(copy, lock.identity), "unknown");
  renameSync(copy, path);
  assert.equal(probeLock(path, lock.identity), "unknown");
  unlinkSync(path);
  assert.equal(probeLock(path, lock.identity), "unknown");
  assert.equal(existsSync(path), false);
  writeFileSync(path, "this is no lock file, but something else of some length".repeat(100));
  const { dev, ino } = statSync(path);
  assert.equal(probeLock(path, { dev, ino }), "unknown");
});

test("a lock whose file was removed or replaced is refused", (t) => {
  const path = join(placeFor(t).folder, "lock");
  const lock = openLock(path);
  assert.equal(lock.tryLock(), true);
  lock.unlock();
  unlinkSync(path);
  assert.throws(() => lock.tryLock(), (error) => isPawlError(error, "storage") && error.next !== undefined);
  const other = openLock(path);
  assert.throws(() => lock.tryLock(), (error) => isPawlError(error, "storage"));
  assert.equal(other.tryLock(), true);
  for (const each of [lock, other]) each.close();
});

test("many processes that create the lock file together never hold it together", async (t) => {
  const place = placeFor(t);
  const value = join(place.folder, "value");
  writeFileSync(value, "0");
  const children = Array.from({ length: 6 }, () => child("turns", { ...place, file: join(place.folder, "lock") }, value, 200));
  for (const each of children) assert.equal(await each.ended, 0);
  const { readFileSync } = await import("node:fs");
  assert.equal(readFileSync(value, "utf8"), "1200");
});

test("a turn is taken at once when nobody is in, and one that waits comes before one that returns", async (t) => {
  const { folder } = placeFor(t);
  const open = () => new Turn(join(folder, "lock"), join(folder, "gate"), { clock: systemClock, random: systemRandom, what: "the state" });
  const [a, b] = [open(), open()];
  let ran = false;
  const done = a.run(() => (ran = true));
  assert.equal(ran, true, "it ran before run returned");
  await done;
  const holder = openLock(join(folder, "lock"));
  assert.equal(holder.tryLock(), true);
  const order: string[] = [];
  const waiting = [b.run(() => order.push("b1")), b.run(() => order.push("b2"))];
  await sleep(systemClock, 20);
  const late = a.run(() => order.push("a"));
  holder.unlock();
  await Promise.all([...waiting, late]);
  assert.deepEqual(order, ["b1", "b2", "a"]);
  await assert.rejects(a.run(() => { throw new Error("mine"); }), /mine/);
  assert.equal(await b.run(() => 5), 5, "a section that throws frees the lock");
  for (const each of [a, b, holder]) each.close();
  await assert.rejects(a.run(() => 1), (error) => isPawlError(error, "closed"));
});

test("after a rest one turn passes by who waits at the gate, and the next waits behind", async (t) => {
  const { folder } = placeFor(t);
  const clock = manualClock();
  let flushed = 0;
  const slow = { ...clock, monotonic: () => clock.monotonic() + flushed };
  const turn = new Turn(join(folder, "lock"), join(folder, "gate"), { clock: slow, random: systemRandom, what: "the state" });
  const waiter = openLock(join(folder, "gate"));
  assert.equal(waiter.tryLock(), true);
  const order: string[] = [];
  for (const which of ["first", "second"]) {
    void turn.run(() => {
      order.push(which);
      flushed += 50; // a slow flush is no rest
    });
    assert.deepEqual(order, [which], "the lock was free");
    const behind = turn.run(() => order.push("behind"));
    await clock.advance(100);
    assert.deepEqual(order, [which], "it waits at the gate");
    waiter.unlock();
    await clock.advance(100);
    await behind;
    assert.deepEqual(order.splice(0), [which, "behind"]);
    assert.equal(waiter.tryLock(), true, "the gate is free again");
  }
  for (const each of [turn, waiter]) each.close();
});

test("a lock file that was replaced leaves the gate to others", async (t) => {
  const { folder } = placeFor(t);
  const open = () => new Turn(join(folder, "lock"), join(folder, "gate"), { clock: systemClock, random: systemRandom, what: "the state" });
  const old = open();
  assert.equal(await old.run(() => 1), 1);
  unlinkSync(join(folder, "lock"));
  for (let i = 0; i < 2; i++) await assert.rejects(old.run(() => 1), (error) => isPawlError(error, "storage"));
  const next = open();
  for (let i = 0; i < 2; i++) assert.equal(await next.run(() => 2), 2);
  for (const each of [old, next]) each.close();
});

test("a wait names its holder, then fails busy, and the gate is free again", async (t) => {
  const place = placeFor(t);
  const path = join(place.folder, "lock");
  const holder = child("hold", { ...place, file: path });
  await holder.line("taken true");
  const clock = manualClock();
  const notices: string[] = [];
  const options = { clock, random: systemRandom, notice: (line: string) => void notices.push(line), what: "state.json" };
  const turn = new Turn(path, join(place.folder, "gate"), options);
  const refused = assert.rejects(turn.run(() => 1), (error) => isPawlError(error, "busy") && error.message.includes("state.json") && error.next !== undefined);
  for (let i = 0; i < 40; i++) await clock.advance(300);
  await refused;
  assert.equal(notices.length, 1);
  if (process.platform === "linux") assert.match(notices[0]!, new RegExp(`process ${holder.process.pid} `));
  const gate = openLock(join(place.folder, "gate"));
  assert.equal(gate.tryLock(), true);
  gate.close();
  holder.process.kill("SIGKILL");
  await holder.ended;
  assert.equal(await turn.run(() => 2), 2);
  turn.close();
});

test("withFileLock: one at a time in a process, freed when the function throws", async (t) => {
  const path = join(placeFor(t).folder, "notes.txt");
  let inside = 0;
  let most = 0;
  const task = async () => {
    most = Math.max(most, ++inside);
    await sleep(systemClock, 3);
    inside--;
  };
  await Promise.all(Array.from({ length: 5 }, () => withFileLock(path, task)));
  assert.equal(most, 1);
  await assert.rejects(withFileLock(path, () => Promise.reject(new Error("mine"))), /mine/);
  assert.equal(await withFileLock(path, () => 7), 7);
});
