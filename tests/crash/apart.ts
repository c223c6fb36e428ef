// Runs an exported function of a module in a thread of its own. The test runner follows every promise of its own thread,
// and a sweep makes tens of millions of them: a fifth of its time went into that. Invariant: what the function throws
// rejects here; arguments and answer are copied.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

type Task = { readonly module: string; readonly name: string; readonly args: readonly unknown[] };
type Answer = { readonly value: unknown } | { readonly error: unknown };

/** `module` is a URL: `new URL("./x.ts", import.meta.url).href`, or `import.meta.resolve("./x.ts")`. */
export function apart<F extends (...args: never[]) => Promise<unknown>>(module: string, name: string, ...args: Parameters<F>): ReturnType<F> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(import.meta.filename, { workerData: { module, name, args } satisfies Task });
    thread.once("message", (answer: Answer) => ("error" in answer ? reject(answer.error as Error) : resolve(answer.value)));
    thread.once("error", reject);
    thread.once("exit", (code) => reject(new Error(`the thread ended with ${code} and no answer`)));
  }) as ReturnType<F>;
}

if (!isMainThread && parentPort && isTask(workerData)) {
  const { module, name, args } = workerData;
  const exported = (await import(module)) as { [name: string]: (...args: readonly unknown[]) => Promise<unknown> };
  const answer: Answer = await exported[name]!(...args).then((value) => ({ value }), (error: unknown) => ({ error }));
  parentPort.postMessage(answer);
}

function isTask(data: unknown): data is Task {
  return typeof (data as Task | null)?.module === "string" && typeof (data as Task).name === "string";
}
