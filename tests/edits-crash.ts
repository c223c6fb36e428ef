// Opens a state, waits for a hand edit, and dies by kill -9 the moment it is merged: after its line of the journal is on the
// disk, before a view shows it.
import { openState } from "../src/state.ts";

const [, , location] = process.argv as [string, string, string];
await openState(location, {
  actor: "child",
  notice: (line) => {
    if (line.includes("was edited by hand")) process.kill(process.pid, "SIGKILL");
  },
});
process.stdout.write("ready\n");
setInterval(() => undefined, 1_000);
