#!/usr/bin/env node
// The program `pawl`. It imports nothing statically and uses no syntax newer than ES2020, so that a Node too old for the
// rest reads it, and says what is wrong instead of printing a stack.

const [major, minor] = process.versions.node.split(".").map(Number) as [number, number];

if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `pawl: this is Node ${process.versions.node}, which is too old.\n` +
      "why: Pawl needs Node 22.18 or newer, for the SQLite and the TypeScript support that come with it.\n" +
      "next: install Node 24 from https://nodejs.org and run the same command again.\n",
  );
  process.exitCode = 1;
} else {
  start().then(
    (code) => {
      process.exitCode = code;
    },
    (error) => {
      process.stderr.write(`pawl: ${error instanceof Error && error.stack ? error.stack : String(error)}\n`);
      process.exitCode = 70;
    },
  );
}

async function start(): Promise<number> {
  if (major < 24) hideSqliteWarning();
  // Compiled code is kept between runs (NODE_DISABLE_COMPILE_CACHE=1 turns it off): it halves the start of a short command.
  const { enableCompileCache } = await import("node:module");
  enableCompileCache();
  const [{ main }, { processIo }] = await Promise.all([import("./cli.ts"), import("./io.ts")]);
  return main(process.argv.slice(2), processIo());
}

/** Node 22 warns whenever its SQLite is loaded. Every other warning passes. */
function hideSqliteWarning(): void {
  const emit = process.emitWarning as (...args: unknown[]) => void;
  process.emitWarning = (...args: unknown[]) => {
    if (/^SQLite is an experimental feature/.test(String(args[0]))) return;
    emit.apply(process, args);
  };
}
