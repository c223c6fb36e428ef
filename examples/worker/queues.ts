// Two queues in one worker: mails, three at a time, judged before they count; reports, one after the other. Try it:
//   pawl worker queues.ts --health 8787
import { defineWorker, PermanentError } from "../../src/index.ts";

type Mail = { readonly to: string };

export default defineWorker({
  queues: {
    mail: {
      concurrency: 3,
      execute: async (task, { step, idempotencyKey }) => {
        const { to } = (task.input ?? {}) as Partial<Mail>;
        if (to === undefined) throw new PermanentError("a mail needs somebody to go to");
        return step("send", () => ({ to, id: idempotencyKey.slice(0, 8) }));
      },
      verify: (_, result) => ({ passed: (result as Mail).to.includes("@"), feedback: "that is no address" }),
    },
    reports: async (task) => `${task.description}: nothing unusual`,
  },
});
