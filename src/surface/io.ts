// What a command knows of the world around it: where it prints, what it reads, its environment and folder. Passed in, so
// that everything above it can be tested without a process.
import { codeOf } from "../base/fs.ts";

export type Io = {
  /** Results. */
  out(text: string): void;
  /** Errors, notices, progress. */
  err(text: string): void;
  /** Standard input to its end. */
  stdin(): Promise<Uint8Array>;
  /** Standard output is a terminal. */
  readonly tty: boolean;
  /** Standard error is one too. */
  readonly errTty?: boolean | undefined;
  /** Whether results, and whether errors, are coloured. */
  readonly color: boolean;
  readonly errColor: boolean;
  readonly columns: number;
  readonly env: NodeJS.ProcessEnv;
  /** The caller's folder. */
  readonly cwd: string;
};

/** Columns of what is not a terminal: wide enough for a table that is read in a log. */
const COLUMNS = 120;

/** The Io of this process. */
export function processIo(): Io {
  const { stdout, stderr, env } = process;
  const tty = stdout.isTTY === true;
  return {
    out: writerTo(stdout),
    err: writerTo(stderr),
    stdin: readAll,
    tty,
    errTty: stderr.isTTY === true,
    color: colored(env, tty),
    errColor: colored(env, stderr.isTTY === true),
    columns: tty && stdout.columns > 0 ? stdout.columns : COLUMNS,
    env,
    cwd: process.cwd(),
  };
}

/** NO_COLOR wins over FORCE_COLOR, both over what the stream is. */
export function colored(env: NodeJS.ProcessEnv, tty: boolean): boolean {
  if (env["NO_COLOR"]) return false;
  const force = env["FORCE_COLOR"];
  if (force !== undefined && force !== "") return force !== "0" && force !== "false";
  return tty && env["TERM"] !== "dumb";
}

/**
 * Writes until nobody reads any more (`pawl list | head -1`), and drops the rest quietly. A process that works on, such as
 * `pawl run`, is told by the signal it stops at; what has none comes to its end by itself.
 */
function writerTo(stream: NodeJS.WriteStream): (text: string) => void {
  let gone = false;
  stream.on("error", (error) => {
    if (codeOf(error) !== "EPIPE") throw error;
    if (!gone && process.listenerCount("SIGTERM") > 0) process.kill(process.pid, "SIGTERM");
    gone = true;
  });
  return (text) => {
    if (!gone) stream.write(text);
  };
}

async function readAll(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
