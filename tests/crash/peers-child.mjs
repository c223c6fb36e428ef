// One peer at work, in the folder where the peers are installed: a counter that is read, raised and kept, with a kilobyte
// beside it. Each update is acknowledged by a line in a file outside, after the peer said that it is kept.
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const PAD = "x".repeat(1_000);
const read = (path) => {
  try {
    return JSON.parse(readFileSync(path, "utf8")).n;
  } catch (error) {
    if (error.code === "ENOENT") return 0;
    throw error;
  }
};
/** A peer that replaces a JSON file: what `write` does with path and text. */
const fileOf = (write) => async (folder) => {
  const path = join(folder, "peer.json");
  return { increment: async (pad = PAD) => { const n = read(path) + 1; await write(path, JSON.stringify({ n, pad })); return n; } };
};
const sqlite = async (folder, open) => {
  const db = await open(join(folder, "peer.db"));
  db.exec("create table if not exists t (id integer primary key, n, pad); insert or ignore into t values (1, 0, '')");
  const update = db.prepare("update t set n = n + 1, pad = ? where id = 1");
  const read = db.prepare("select n from t where id = 1");
  return { increment: async (pad = PAD) => (update.run(pad), read.get().n) };
};
const pawl = async (file, folder) => {
  const { openState } = await import(pathToFileURL(process.env.PAWL_SOURCE).href);
  const state = await openState(join(folder, file), { actor: "peer", notice: () => undefined });
  return { increment: async (pad = PAD) => (await state.tasks.add({ description: "one more", input: pad })).id };
};

const PEERS = {
  "write-file-atomic": async (folder) => fileOf((await import("write-file-atomic")).default)(folder),
  atomically: async (folder) => fileOf((await import("atomically")).writeFile)(folder),
  steno: async (folder) => {
    const { Writer } = await import("steno");
    return fileOf((path, text) => new Writer(path).write(text))(folder);
  },
  lowdb: async (folder) => {
    const { JSONFilePreset } = await import("lowdb/node");
    const db = await JSONFilePreset(join(folder, "peer.json"), { n: 0, pad: "" });
    return { increment: async (pad = PAD) => { await db.read(); db.data = { n: db.data.n + 1, pad }; await db.write(); return db.data.n; } };
  },
  conf: async (folder) => {
    const { default: Conf } = await import("conf");
    const conf = new Conf({ cwd: folder, configName: "peer" });
    return { increment: async (pad = PAD) => { const n = conf.get("n", 0) + 1; conf.set({ n, pad }); return n; } };
  },
  "proper-lockfile": async (folder) => {
    const { default: lockfile } = await import("proper-lockfile");
    const { default: write } = await import("write-file-atomic");
    const { increment } = await fileOf(write)(folder);
    return { increment: async (pad) => {
      const release = await lockfile.lock(folder, { retries: { forever: true, minTimeout: 1, maxTimeout: 20 }, lockfilePath: join(folder, "peer.lock") });
      try {
        return await increment(pad);
      } finally {
        await release();
      }
    } };
  },
  "better-sqlite3": (folder) => sqlite(folder, async (path) => {
    const { default: Database } = await import("better-sqlite3");
    const db = new Database(path);
    db.pragma("journal_mode = WAL");
    return db;
  }),
  // Its default settings under another driver: in WAL mode it flushes at checkpoints only.
  "node:sqlite as better-sqlite3": (folder) => sqlite(folder, async (path) => {
    const { DatabaseSync } = await import("node:sqlite");
    const db = new DatabaseSync(path, { timeout: 5_000 });
    db.exec("pragma journal_mode = wal; pragma synchronous = normal");
    return db;
  }),
  "pawl (JSON)": (folder) => pawl("state.json", folder),
  "pawl (SQLite)": (folder) => pawl("state.db", folder),
};

const [, , name, folder, log, times, mode] = process.argv;
const peer = await PEERS[name](folder);
if (mode === "big") {
  // What it says about a value that does not fit on the disk.
  try {
    await peer.increment("y".repeat(700_000));
    writeFileSync(log, "success");
  } catch (error) {
    writeFileSync(log, `error ${error.code ?? ""}`);
  }
  process.exit(0);
}
for (let i = 0; i < Number(times); i++) appendFileSync(log, `n ${await peer.increment()}\n`);
process.exit(0);
