// What a command knows of the world around it: where it prints, what it reads, its environment and folder. Passed in, so
// that everything above it can be tested without a process.
import { PawlError } from "../base/errors.ts";

export type Io = {
  /** Results. Bytes are passed through as they are. */
  out(text: string | Uint8Array): void;
  /** Errors, notices, progress. */
  err(text: string): void;
  /** Standard input to its end. */
  stdin(): Promise<Uint8Array>;
  /** Aborted once nobody reads what is printed (`pawl run … | head -2`). */
  readonly unread?: AbortSignal | undefined;
  /** Resolves when all is written, with what went wrong. */
  written?(): Promise<PawlError | null>;
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
  const unread = new AbortController();
  const [out, err] = [writerTo(stdout, unread), writerTo(stderr, unread)];
  return {
    out: out.write,
    err: err.write,
    stdin: readAll,
    unread: unread.signal,
    written: async () => lost((await out.done()) ?? (await err.done())),
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

/** The reader of a pipe has gone: what nobody reads is dropped, and a process that works on is told. */
const UNREAD = "EPIPE";
/** The terminal has hung up. The SIGHUP that comes with it says what to do; what would be printed is lost. */
const HUNG_UP = new Set(["EIO", "EBADF", "ENXIO"]);

type Writer = { readonly write: (text: string | Uint8Array) => void; readonly done: () => Promise<NodeJS.ErrnoException | null> };

/** Writes until it cannot any more. What else goes wrong than a reader or a terminal that has gone is an error at the end. */
function writerTo(stream: NodeJS.WriteStream, unread: AbortController): Writer {
  let gone = false;
  let failure: NodeJS.ErrnoException | null = null;
  stream.on("error", (error: NodeJS.ErrnoException) => {
    gone = true;
    if (error.code === UNREAD) unread.abort();
    else if (!HUNG_UP.has(error.code ?? "")) failure ??= error;
  });
  return {
    write: (text) => {
      if (!gone) stream.write(text);
    },
    async done() {
      // Its error is told a moment after the write was called back.
      if (!gone) await new Promise<void>((resolve) => stream.write("", () => setImmediate(resolve)));
      return failure;
    },
  };
}

function lost(error: NodeJS.ErrnoException | null): PawlError | null {
  if (error === null) return null;
  return new PawlError("storage", `The output could not be written (${error.code ?? error.message}).`, { next: "What the command did is done. Make room where the output goes, and look again: pawl status.", cause: error });
}

async function readAll(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
