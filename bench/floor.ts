// What the two floors share: group commit in its shortest form, the load (16 producers, N tasks of five steps, C in flight)
// and the figures. The same load is put on Pawl by load.ts.

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
