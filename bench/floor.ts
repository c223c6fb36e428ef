// What the two floors share: group commit in its shortest form, the load (16 producers, N tasks of five steps, C in flight),
// the wait from an add to the start of its task, and the figures. The same is asked of Pawl by load.ts and latency.ts.
// node floor-NAME.ts FILE TASKS IN_FLIGHT, or: node floor-NAME.ts FILE idle

export type Engine<T> = {
  add(n: number): Promise<unknown>;
  claim(n: number): Promise<T[]>;
  step(task: T, key: string, output: unknown): Promise<unknown>;
  complete(task: T, result: unknown): Promise<unknown>;
};

type Pending = { body: () => unknown; resolve: (value: unknown) => void };

export function groupCommit(flush: (bodies: (() => unknown)[]) => Promise<unknown[]>): <R>(body: () => R) => Promise<R> {
  let pending: Pending[] = [];
  let scheduled = false;
  const run = async () => {
    scheduled = false;
    const batch = pending;
    pending = [];
    const results = await flush(batch.map(({ body }) => body));
    batch.forEach(({ resolve }, i) => resolve(results[i]));
  };
  return <R>(body: () => R) =>
    new Promise<R>((resolve) => {
      pending.push({ body, resolve: resolve as (value: unknown) => void });
      if (!scheduled) setImmediate(() => void run());
      scheduled = true;
    });
}

export function run<T>(engine: Engine<T>): Promise<void> {
  const [, , , tasks, inFlight] = process.argv;
  return (tasks === "idle" ? idle(engine) : load(engine, Number(tasks), Number(inFlight))).then(report);
}

/** What `idle` and latency.ts have worked before they measure: a worker that is idle has been at work, and its code is compiled. */
export const WORKED = 2_000;
export const SAMPLES = 300;
/** Between two adds, so that the worker is idle. */
export const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10));

/** From an add to the start of its task: the claim goes in the flush of the add, as late as possible and as early as needed. */
async function idle<T>(engine: Engine<T>): Promise<Waits> {
  await load(engine, WORKED, 100);
  const waits: number[] = [];
  for (let i = 0; i < SAMPLES; i++) {
    await pause();
    const start = performance.now();
    void engine.add(i);
    const [task] = await engine.claim(1);
    waits.push(performance.now() - start);
    await engine.complete(task!, null);
  }
  return waitsOf(waits);
}

export type Waits = { readonly samples: number; readonly p50_ms: number; readonly p95_ms: number; readonly max_ms: number };

export function waitsOf(waits: readonly number[]): Waits {
  const sorted = [...waits].sort((a, b) => a - b);
  return { samples: sorted.length, p50_ms: round(sorted[sorted.length >> 1]!, 2), p95_ms: round(sorted[Math.floor(sorted.length * 0.95)]!, 2), max_ms: round(sorted.at(-1)!, 2) };
}

export type Figures = { readonly tasks: number; readonly tasks_s: number; readonly cpu_ms_task: number; readonly rss_mb: number };

/** `timer_late_ms` is what the disk alone does to a process that flushes in its only thread. */
export async function load<T>(engine: Engine<T>, tasks: number, inFlight: number): Promise<Figures & { readonly timer_late_ms: number }> {
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  const lateness = timerLateness();
  let added = 0;
  let finished = 0;
  const ready: T[] = [];
  let claiming: Promise<void> | null = null;
  const producer = async () => {
    while (added < tasks) await engine.add(added++);
  };
  const next = async (): Promise<T | null> => {
    while (finished < tasks) {
      const task = ready.pop();
      if (task) return task;
      claiming ??= engine.claim(inFlight).then((claimed) => {
        ready.push(...claimed.reverse());
        claiming = null;
      });
      await claiming;
      if (ready.length === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    return null;
  };
  const runner = async () => {
    for (let task = await next(); task; task = await next()) {
      for (let i = 0; i < 5; i++) await engine.step(task, `s${i}`, { i });
      await engine.complete(task, { ok: true });
      finished++;
    }
  };
  await Promise.all([...Array.from({ length: 16 }, producer), ...Array.from({ length: inFlight }, runner)]);
  return { ...figures(tasks, wall, cpu), timer_late_ms: lateness() };
}

export function figures(tasks: number, wall: bigint, cpu: NodeJS.CpuUsage): Figures {
  const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
  const used = process.cpuUsage(cpu);
  return { tasks, tasks_s: Math.round(tasks / seconds), cpu_ms_task: round((used.user + used.system) / 1000 / tasks, 3), rss_mb: Math.round(process.memoryUsage.rss() / 1e6) };
}

/** Looks every 10 ms how late a timer is; the result, asked for at the end, is the worst in ms. */
export function timerLateness(): () => number {
  let latest = 0;
  let expected = performance.now() + 10;
  const timer = setInterval(() => {
    const now = performance.now();
    latest = Math.max(latest, now - expected);
    expected = now + 10;
  }, 10);
  return () => {
    clearInterval(timer);
    return round(latest, 1);
  };
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

export function report(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
