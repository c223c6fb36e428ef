// Processes are real here. What is tested most is what must not happen: that a stranger is ended.
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { bootId, endGroup, groupAlive, hostName, markOf, parseStat, PROCESS_MARK, processStart, type ProcessGroup } from "../../src/base/host.ts";

const started: number[] = [];
after(() => {
  for (const pid of started) {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // It is gone, as it should be.
    }
  }
});

/** A group of its own that runs `script` and is recorded as a worker would. Resolves once it wrote a line. */
async function group(script: string, env: NodeJS.ProcessEnv = {}): Promise<{ child: ChildProcess; recorded: ProcessGroup }> {
  // The marker depends on the number, so a first shell waits for it, as the gate of commands does.
  const child = spawn("/bin/sh", ["-c", `read -r ${PROCESS_MARK}; export ${PROCESS_MARK}; exec "$@"`, "sh", "/bin/sh", "-c", script], { detached: true, stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
  started.push(child.pid!);
  const recorded = { pid: child.pid!, startTime: processStart(child.pid!)!, bootId: bootId() };
  child.stdin!.end(`${markOf(recorded)}\n`);
  await once(child.stdout!, "data");
  return { child, recorded };
}

const clock = systemClock;
const gone = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null || once(child, "exit");

describe("identity", () => {
  test("the boot id and the host's name are known and stay", () => {
    assert.match(bootId(), /^[\w-]{8,}$/);
    assert.equal(bootId(), bootId());
    assert.ok(hostName().length > 0);
  });

  test("a process has one start, another process another, and nobody has none", async () => {
    assert.equal(processStart(process.pid), processStart(process.pid));
    const { child } = await group("echo; sleep 60");
    assert.notEqual(processStart(child.pid!), processStart(process.pid));
    assert.equal(processStart(2 ** 22 + 1), null);
    process.kill(-child.pid!, "SIGKILL");
  });

  test("a name with spaces and parentheses does not shift the fields", { skip: process.platform === "linux" ? false : "there is no /proc" }, async () => {
    const path = join(mkdtempSync(join(tmpdir(), "pawl-host-")), "a) S 1 (b c");
    symlinkSync("/bin/sleep", path);
    const child = spawn(path, ["60"], { detached: true });
    started.push(child.pid!);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const text = readFileSync(`/proc/${child.pid}/stat`, "utf8");
    assert.match(text, /\(a\) S 1 \(b c\)/);
    assert.equal(parseStat(text)?.pgid, child.pid);
    assert.ok(Number(processStart(child.pid!)) > 1000);
    process.kill(-child.pid!, "SIGKILL");
  });

  test("a dead process nobody collected does not count", () => {
    const line = (state: string, threads: number) => `5 (x) ${state} 1 5 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 ${threads} 0 777 0`;
    assert.deepEqual(parseStat(line("S", 1)), { pgid: 5, start: "777", dead: false });
    assert.equal(parseStat(line("Z", 1))?.dead, true);
    assert.equal(parseStat(line("Z", 3))?.dead, false, "its main thread ended, others go on");
    assert.equal(parseStat("5 (x) S"), null);
    assert.equal(parseStat(null), null);
  });
});

describe("endGroup", () => {
  test("ends leader and children", async () => {
    const { child, recorded } = await group("sleep 60 & sleep 60 & echo; wait");
    assert.equal(await endGroup(recorded, { clock }), "ended");
    assert.equal(groupAlive(recorded.pid), false);
    await gone(child);
    assert.equal(await endGroup(recorded, { clock }), "gone");
  });

  test("ends what ignores SIGTERM, after the grace", async () => {
    const { recorded } = await group("trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo; while :; do sleep 1; done");
    const before = performance.now();
    assert.equal(await endGroup(recorded, { clock, graceMs: 300 }), "ended");
    assert.ok(performance.now() - before >= 300);
    assert.equal(groupAlive(recorded.pid), false);
  });

  test("lets a command end itself within the grace", async () => {
    const { child, recorded } = await group("trap 'exit 42' TERM; echo; while :; do sleep 0.02; done");
    const exit = once(child, "exit");
    assert.equal(await endGroup(recorded, { clock, graceMs: 5_000 }), "ended");
    assert.deepEqual(await exit, [42, null]);
  });

  test("ends the children of a leader that is gone, known by their mark", async () => {
    const { child, recorded } = await group("sleep 60 & echo");
    await gone(child);
    assert.equal(processStart(recorded.pid), null);
    assert.equal(groupAlive(recorded.pid), true);
    assert.equal(await endGroup(recorded, { clock }), "ended");
    assert.equal(groupAlive(recorded.pid), false);
  });

  test("spares a group without its leader and without our mark", async () => {
    const { child, recorded } = await group(`${PROCESS_MARK}=${process.pid}:1:other sleep 60 & sleep 0.2; echo`);
    await gone(child);
    assert.equal(await endGroup(recorded, { clock }), "unproven");
    assert.equal(groupAlive(recorded.pid), true);
    assert.equal(await endGroup(recorded, { clock, mine: true }), "ended", "whoever started it needs no mark");
  });

  test("spares a process that was given the number later", async () => {
    const { child, recorded } = await group("echo; sleep 60");
    assert.equal(await endGroup({ ...recorded, startTime: String(Number(recorded.startTime) - 1) }, { clock }), "gone");
    assert.equal(await endGroup({ ...recorded, startTime: "" }, { clock, mine: true }), "gone");
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(child.exitCode ?? child.signalCode, null, "the stranger was signalled");
    await endGroup(recorded, { clock });
  });

  test("spares everything of another boot, and numbers that mean everyone", async () => {
    const { child, recorded } = await group("echo; sleep 60");
    assert.equal(await endGroup({ ...recorded, bootId: "11111111-2222-3333-4444-555555555555" }, { clock }), "elsewhere");
    for (const pid of [0, 1, -1, NaN, 1.5, 2 ** 60]) assert.equal(await endGroup({ ...recorded, pid }, { clock, mine: true }), "unproven");
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(child.exitCode ?? child.signalCode, null);
    await endGroup(recorded, { clock });
  });
});
