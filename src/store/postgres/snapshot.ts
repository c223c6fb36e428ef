// One moment of a Postgres state: all reads go over one connection, in one transaction that sees what was committed when it
// began and nothing later. Invariant: nothing can be written through it, and a broken connection ends it.
import type { Door, Link, Statement } from "./driver.ts";

/** Reads of one moment; `close` ends it and closes the connections below. */
export async function snapshotOf(connections: Door): Promise<Door> {
  const link = await connections.take();
  const run = (statements: readonly Statement[]) => link.run(statements);
  const shared: Link = { run, release: () => undefined };
  try {
    await run([{ text: "begin isolation level repeatable read read only" }]);
  } catch (error) {
    link.release(true);
    throw error;
  }
  return {
    run,
    take: () => Promise.resolve(shared),
    listen: (...how) => connections.listen(...how),
    close: () => {
      // Thrown away, which ends its transaction whatever state that is in.
      link.release(true);
      return connections.close();
    },
  };
}
