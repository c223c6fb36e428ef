// A process for the tests of the JSON store and of the locks: `json-child.ts ROLE FILE ARGS…`. What it prints is written
// before the call returns, so an acknowledgement is out even when a kill follows at once.
import { writeSync } from "node:fs";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { openLock } from "../../src/base/lock.ts";
import { openJson } from "../../src/store/json/json.ts";
import { add, increment, model, viewed } from "./json-place.ts";

const [role = "", file = "", ...args] = process.argv.slice(2);
const say = (line: string) => writeSync(1, `${line}\n`);
const options = { clock: systemClock, random: systemRandom };

const roles: Record<string, () => Promise<void>> = {
  /** Adds 1 to counter `c` so many times, and says how long the longest commit took. */
  async count() {
    const store = await openJson(file, model, options);
    say("ready");
    let longest = 0;
    for (let i = 0; i < Number(args[0]); i++) {
      const start = performance.now();
      const [result] = await store.commit([increment("c")]);
      if (!result?.ok) throw new Error(JSON.stringify(result));
      longest = Math.max(longest, performance.now() - start);
      // Other work of this process has its turn, as in a real one.
      if (i % 10 === 9) await new Promise((resolve) => setImmediate(resolve));
    }
    await store.close();
    say(`longest ${longest.toFixed(1)}`);
  },
  /** Adds items until it is killed and says each one that was acknowledged. */
  async add() {
    const store = await openJson(file, viewed, options);
    for (let i = 0; ; i++) {
      const title = `${process.pid}-${i}`;
      await store.commit([add(title, "x".repeat(i % 7 === 0 ? 20_000 : 20))]);
      say(title);
      if (i % 5 === 4) await new Promise((resolve) => setImmediate(resolve));
    }
  },
  /** Adds one item and closes: what a command of the command line does. */
  async once() {
    const store = await openJson(file, viewed, options);
    await store.commit([add(args[0] ?? "once")]);
    await store.close();
  },
  /** Takes a lock and keeps it until it is killed. */
  async hold() {
    say(`taken ${openLock(file).tryLock()}`);
    await new Promise(() => setInterval(() => {}, 1_000));
  },
  /** Takes and frees a lock many times around an unprotected read-modify-write. */
  async turns() {
    const { readFileSync, writeFileSync } = await import("node:fs");
    const lock = openLock(file);
    for (let done = 0; done < Number(args[1]); ) {
      if (!lock.tryLock()) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        continue;
      }
      writeFileSync(args[0]!, String(Number(readFileSync(args[0]!, "utf8")) + 1));
      lock.unlock();
      done++;
    }
    lock.close();
  },
};

await roles[role]!();
