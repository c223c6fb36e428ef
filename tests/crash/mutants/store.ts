// Deliberate bugs in base and store, each with the test that must notice.
import type { Mutant } from "./run.ts";

const JOURNAL = "src/store/json/journal.ts";
const CHECKPOINT = "src/store/json/checkpoint.ts";
const RECOVERY = "src/store/json/recovery.ts";
const JSON_STORE = "src/store/json/json.ts";
const LEDGER = "src/store/json/ledger.ts";
const VIEW = "src/store/json/view.ts";
const FS = "src/base/fs.ts";
const LOCK = "src/base/lock.ts";

const DISK = "tests/crash/disk.test.ts";
const SHORT = [DISK, "a power cut at any moment of a short life"] as const;
const SEGMENTS = [DISK, "a power cut at any moment, over segments"] as const;
const KILLED = [DISK, "killed at any moment of a short life"] as const;
const FAULTS = ["tests/crash/faults.test.ts", "a fault at any call"] as const;
const json = (name: string) => ["tests/store/json.test.ts", name] as const;
const lock = (name: string) => ["tests/store/lock.test.ts", name] as const;

export const STORE_MUTANTS: readonly Mutant[] = [
  { name: "the journal is not flushed", file: JOURNAL, find: "this.#fs.fdatasync(this.#fd);\n    } catch (error) {\n      return", replace: "} catch (error) {\n      return", test: SHORT },
  { name: "answered before the journal is flushed", file: JOURNAL, find: "this.#fs.fdatasync(this.#fd);\n    } catch (error) {\n      return", replace: "const fd = this.#fd;\n      setImmediate(() => this.#fs.fdatasync(fd));\n    } catch (error) {\n      return", test: SHORT },
  { name: "the name of a new segment is not made durable", file: JOURNAL, find: "fs.rename(temp, path);\n  fs.fsyncDir(dir);", replace: "fs.rename(temp, path);", test: SEGMENTS },
  { name: "a segment somebody else made is followed before its name is durable", file: RECOVERY, find: "if (writable) fs.fsyncDir(places.journal);", replace: "", test: KILLED },
  { name: "folders somebody else made are taken as durable", file: RECOVERY, find: "missing.length === 0 && hasJournal(fs, places)", replace: "missing.length === 0", test: KILLED },
  { name: "a new file is not flushed", file: FS, find: "  fs.fsync(fd);\n  return stat;", replace: "  return stat;", test: SHORT },
  { name: "a checkpoint is not flushed before it is named", file: CHECKPOINT, find: "createFileInSlices(fs, temp", replace: "createFileInSlices({ ...fs, fsync: () => undefined }, temp", test: SEGMENTS },
  { name: "a view is not flushed before it is named", file: VIEW, find: "createFileInSlices(fs, temp", replace: "createFileInSlices({ ...fs, fsync: () => undefined }, temp", test: SHORT },
  { name: "a view is not noted before it is in place", file: VIEW, find: "host.note(note);", replace: "setImmediate(() => host.note(note));", test: SHORT },
  { name: "a flush that failed is tried again", file: JOURNAL, find: "return this.#rewrite(at, body, error);", replace: "this.#fs.fdatasync(this.#fd);", test: FAULTS },
  { name: "a line whose outcome is unknown stays to be read", file: JOURNAL, find: "      // Readers would go on seeing the line, and continue a chain that the disk may not have.\n      this.#takeBack();", replace: "", test: FAULTS },
  { name: "a line that was half written stays", file: JOURNAL, find: "this.#fs.ftruncate(this.#fd, this.#position.end);\n    } catch", replace: "void this.#position;\n    } catch", test: json("short writes are gone on with") },
  { name: "a short write is taken for a whole one", file: FS, find: "done += n;", replace: "done = length;", test: json("short writes are gone on with") },
  { name: "a damaged line in the middle is taken for the end", file: JOURNAL, find: "return holdsLine(rest) ?", replace: "return holdsLine(rest) && false ?", test: json("a flipped bit before the last line") },
  { name: "a line need not continue the one before", file: JOURNAL, find: "line.n !== n + 1 || line.prev !== hash", replace: "line.n !== n + 1", test: ["tests/crash/checkpoint.test.ts", "a line of another history"] },
  { name: "a checksum is not looked at", file: JOURNAL, find: "? body : null;", replace: "|| true ? body : null;", test: ["tests/crash/damage.test.ts", "files of a state cut at every byte, and bits of them flipped: one segment"] },
  { name: "a torn tail is not cut", file: RECOVERY, find: "  journal.truncate();\n", replace: "", test: json("a tail torn at any byte") },
  { name: "a torn tail is cut without a copy", file: RECOVERY, find: "createFile(fs, copy, [rest], 0o600);", replace: "void rest;", test: json("a tail torn at any byte") },
  { name: "a tail is cut before the view was asked whether it was acknowledged", file: LEDGER, find: `if (tail.is === "end" || tail.is === "torn") refuse();`, replace: `if (tail.is === "end") refuse();`, test: ["tests/crash/damage.test.ts", "files of a state cut at every byte, and bits of them flipped: one segment"] },
  { name: "a journal shorter than its view is taken", file: VIEW, find: "header.revision > lastLine", replace: "header.revision > Infinity", test: json("a journal shorter than what its view shows") },
  { name: "a checkpoint is used though the journal is another", file: CHECKPOINT, find: "if (!body || hashOf(body) !== position.hash) throw", replace: "if (!body) throw", test: ["tests/crash/checkpoint.test.ts", "a checkpoint of another journal"] },
  { name: "a damaged checkpoint is used", file: CHECKPOINT, find: "const body = end ? null : checkedBody(bytes.subarray(0, -1));\n    if (!body) throw bad(`damaged at byte ${at}`);\n    const line = JSON.parse(body.toString(\"utf8\")) as Header | Records | End;\n    size = at + bytes.length;\n    if (\"hash\" in line) {\n      end = line;\n      continue;\n    }\n    digest.update(bytes);\n    if (\"kind\" in line) {\n      replica.tables.restore(line.kind, line.fields, line.rows);\n      count += line.rows.length;\n    } else {\n      if (line.format > formatOf(model)) throw newerFormat(path, line.format, formatOf(model));\n      header = line;\n    }\n  }\n  if (!end || !header || end.records !== count || end.hash !== shortHash(digest)", replace: "const body = end ? null : bytes.subarray(9, -1);\n    if (!body) throw bad(`damaged at byte ${at}`);\n    const line = JSON.parse(body.toString(\"utf8\")) as Header | Records | End;\n    size = at + bytes.length;\n    if (\"hash\" in line) {\n      end = line;\n      continue;\n    }\n    digest.update(bytes);\n    if (\"kind\" in line) {\n      replica.tables.restore(line.kind, line.fields, line.rows);\n      count += line.rows.length;\n    } else {\n      if (line.format > formatOf(model)) throw newerFormat(path, line.format, formatOf(model));\n      header = line;\n    }\n  }\n  if (!end || !header || end.records !== count", test: ["tests/crash/checkpoint.test.ts", "a damaged checkpoint"] },
  { name: "ids are counted anew from a checkpoint", file: CHECKPOINT, find: "  replica.tables.raiseCounters(header.counters);\n", replace: "", test: ["tests/crash/checkpoint.test.ts", "the last id was removed"] },
  { name: "a newer format is read", file: JOURNAL, find: "if (header.format > this.#known) throw", replace: "if (header.format > this.#known + 1_000) throw", test: json("a view without its journal is refused, and so is a newer format") },
  { name: "what others appended is not read before a write", file: JSON_STORE, find: "      this.#ledger.catchUpWriting();\n      return section();", replace: "      return section();", test: ["tests/store/json-processes.test.ts", "many processes count together"] },
  { name: "a lock that another holds is taken", file: LOCK, find: "if (!begins(() => begin.run(), path)) return false;", replace: "begins(() => begin.run(), path);", test: lock("two handles in one process") },
  { name: "a missing lock file proves a death", file: LOCK, find: `if (!same()) return "unknown";`, replace: `if (!same()) return "free";`, test: lock("hazard 13: evidence: a missing") },
  { name: "a lock that is free is no evidence of a death", file: LOCK, find: `(free ? "free" : "held")`, replace: `"held"`, test: lock("hazard 13: evidence: held") },
  { name: "a guard is not looked at", file: "src/store/tables.ts", find: "if ((record[field] ?? null) !== guard.is[field]) return failed(record);", replace: "void field;", test: ["tests/core/tasks.test.ts", "(memory|json): two calls with one token"] },
  { name: "a change that conflicts is half kept", file: "src/store/tables.ts", find: "    this.#undoTo(0);", replace: "    void this.#undo;", test: json("a full disk: nothing is changed") },
  { name: "an edit of the same instant is renamed over", file: VIEW, find: "fs.link(temp, file);", replace: "fs.rename(temp, file);", test: ["tests/store/json-view.test.ts", "an edit"] },
  { name: "SQLite does not flush each commit", file: "src/store/sqlite/driver.ts", find: `["synchronous", wal ? "full" : "extra", wal ? 2 : 3]`, replace: `["synchronous", "normal", 1]`, test: ["tests/store/sqlite.test.ts", "every setting is made and read back"] },
];
