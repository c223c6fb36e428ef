// A copier that stops at one moment and waits to be killed: `copy-child.ts FROM TO MOMENT`. It prints the moment when it is
// there. The stores are the real ones; only the one call is held.
import { writeSync } from "node:fs";
import { systemClock } from "../src/base/clock.ts";
import { systemRandom } from "../src/base/id.ts";
import type { Json } from "../src/base/json.ts";
import { copyState } from "../src/core/copy.ts";
import { MODEL } from "../src/state/opening.ts";
import { siteOf, type Site } from "../src/store/site.ts";
import type { Store } from "../src/store/store.ts";
import { appear, hostEvidence } from "../src/worker/liveness.ts";

const [, , from = "", to = "", moment = ""] = process.argv;
const open = { clock: systemClock, random: systemRandom };

async function held(): Promise<never> {
  writeSync(1, `${moment}\n`);
  return new Promise(() => setInterval(() => undefined, 1_000));
}

/** The target, whose store stops within the load, or before its own seal is taken off. */
function holding(site: Site): Site {
  return {
    ...site,
    async open(options) {
      const store = await site.open(options);
      const load: Store["load"] = (pieces, counters) => store.load((async function* () {
        for await (const piece of pieces) {
          yield piece;
          await held();
        }
      })(), counters);
      const seal: Store["seal"] = (next, was) => (next === null ? held() : store.seal(next, was));
      return Object.assign(Object.create(store) as Store, {
        get: store.get.bind(store), list: store.list.bind(store), count: store.count.bind(store), sealed: () => store.sealed(), counters: () => store.counters(), close: () => store.close(),
        seal: moment === "unsealing" ? seal : store.seal.bind(store), load: moment === "loading" ? load : store.load.bind(store), location: store.location,
      });
    },
  };
}

const source = siteOf(from, MODEL, open);
// Kept: a lock that nobody holds a reference to is collected, and free.
const me = appear(source.lockFolder, "copy", systemClock, systemRandom);
await copyState(source, holding(siteOf(to, MODEL, open)), {
  ...open, waitMs: 1_000, actor: "copier", notice: () => undefined, me: me.registered as unknown as Json,
  isGone: () => false, sealAt: async () => null, evidence: hostEvidence(systemClock),
});
me.leave(true);
