// Reads on any connection, each as it is at the moment of its answer. Invariant: what was asked for in one turn of the event
// loop goes in few round trips, and yet one read that fails is nobody else's fault.
import { sleep, type Clock } from "../../base/clock.ts";
import type { Absence } from "./absence.ts";
import { isLost, isUnnamed, type Answer, type Door, type Statement, type Times } from "./driver.ts";
import { settings } from "./transaction.ts";

type Read = { readonly asked: readonly Statement[]; readonly resolve: (answers: Answer[]) => void; readonly reject: (error: unknown) => void };
type Reader = { readonly connections: Door; readonly clock: Clock; readonly random: { number(): number }; readonly times: Times; readonly absence: Absence };

/** Reads in one round trip: the first of them waits for the last. */
const TOGETHER = 100;

export class Reads {
  readonly #reader: Reader;
  readonly #settings: Statement;
  #waiting: Read[] = [];

  constructor(reader: Reader) {
    this.#reader = reader;
    this.#settings = settings(reader.times);
  }

  ask(asked: readonly Statement[]): Promise<Answer[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ asked, resolve, reject });
      if (this.#waiting.length === 1) queueMicrotask(() => this.#begin());
    });
  }

  #begin(): void {
    const reads = this.#waiting;
    this.#waiting = [];
    for (let i = 0; i < reads.length; i += TOGETHER) void this.#answer(reads.slice(i, i + TOGETHER));
  }

  async #answer(reads: readonly Read[]): Promise<void> {
    try {
      const answers = await this.#run(reads.flatMap(({ asked }) => asked));
      let at = 0;
      for (const { asked, resolve } of reads) resolve(answers.slice(at, (at += asked.length)));
    } catch (error) {
      if (reads.length === 1 || isLost(error)) for (const { reject } of reads) reject(error);
      else for (const read of reads) void this.#answer([read]);
    }
  }

  /** A read that fails with its connection is simply made again. */
  async #run(asked: readonly Statement[]): Promise<Answer[]> {
    const { connections, clock, random, absence } = this.#reader;
    const start = clock.monotonic();
    for (let pause = 50; ; pause = Math.min(1_000, pause * 2)) {
      try {
        const answers = await connections.run([this.#settings, ...asked]);
        absence.over();
        return answers.slice(1);
      } catch (error) {
        if ((!isLost(error) && !isUnnamed(error)) || !absence.triesOn(start)) throw error;
        await sleep(clock, pause * (0.5 + random.number()));
      }
    }
  }
}
