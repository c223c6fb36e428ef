// What a worker that is made to be killed tells a file outside the state: every effect, acknowledged step and acknowledged
// completion, one append each, so that the order of lines is the order of what happened.
import { appendFileSync } from "node:fs";
import type { Task } from "../../src/index.ts";
import type { TaskContext } from "../../src/worker/context.ts";

export type EffectLog = (line: string) => void;

export function effectLog(file: string): EffectLog {
  return (line) => appendFileSync(file, `${line}\n`);
}

/** A task of three steps of up to 20 ms, each saying when its effect happens and when its record is acknowledged. */
export function threeSteps(say: EffectLog) {
  return async (task: Task, { step }: TaskContext): Promise<unknown[]> => {
    const outputs: unknown[] = [];
    for (const name of ["one", "two", "three"]) {
      const output = await step(name, async ({ start }) => {
        say(`effect ${task.id} ${name} ${process.pid}`);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
        return { by: process.pid, start };
      });
      say(`recorded ${task.id} ${name} ${JSON.stringify(output)}`);
      outputs.push(output);
    }
    return outputs;
  };
}

export function sayCompleted(say: EffectLog) {
  return (task: Task): void => {
    if (task.status === "completed") say(`completed ${task.id}`);
  };
}
