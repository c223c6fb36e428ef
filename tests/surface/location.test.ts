// Where a command finds its state: by flag, by environment, upward from the caller's folder; never in a stranger's folder.
import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { isPawlError } from "../../src/base/errors.ts";
import { openState } from "../../src/state.ts";
import { main } from "../../src/surface/cli.ts";
import { holdsPassword, locate, shownUrl } from "../../src/surface/location.ts";
import { place } from "../pawl.ts";
import { ioIn } from "./doors.ts";

/** A command line in this process, on the default state of the folder. */
async function pawlHere(folder: string, ...line: string[]): Promise<{ code: number; stderr: string }> {
  let stderr = "";
  const code = await main(line, ioIn(folder, { err: (text) => void (stderr += text), env: { PAWL_ACTOR: "tester" } }));
  return { code, stderr };
}

/** A folder with a/b/c in it; files are made by their paths. */
function tree(t: TestContext, ...files: string[]): (path: string) => string {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "pawl-location-")));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  mkdirSync(join(root, "a/b/c"), { recursive: true });
  for (const file of files) {
    mkdirSync(join(root, file, ".."), { recursive: true });
    writeFileSync(join(root, file), "");
  }
  return (path) => join(root, path);
}

test("the flag wins over PAWL_STATE, both are relative to the caller's folder", (t) => {
  const at = tree(t, "a/x.json");
  const io = { cwd: at("a"), env: { PAWL_STATE: "env.db" } };
  assert.deepEqual(locate(io, "x.json"), { url: at("a/x.json"), exists: true });
  assert.deepEqual(locate(io, "../y.json"), { url: at("y.json"), exists: false });
  assert.deepEqual(locate(io, undefined), { url: at("a/env.db"), exists: false });
  assert.deepEqual(locate({ ...io, env: { PAWL_STATE: "" } }, undefined), { url: at("a/.pawl/state.json"), exists: false });
  assert.throws(() => locate(io, " "), (error) => isPawlError(error, "usage"));
});

test("a URL is taken as it is", () => {
  const io = { cwd: "/", env: {} };
  assert.deepEqual(locate(io, "postgres://localhost/pawl"), { url: "postgres://localhost/pawl", exists: true });
  assert.deepEqual(locate(io, ":memory:"), { url: ":memory:", exists: true });
});

test("a URL is shown without whatever stands for a password", () => {
  for (const name of ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"]) {
    assert.equal(shownUrl(`postgres://ann@h/d?${name}=s3cret&sslmode=require`), "postgres://ann@h/d?sslmode=require");
    assert.equal(holdsPassword(`postgres://ann@h/d?${name}=s3cret`), true, name);
  }
  assert.equal(holdsPassword("postgres://ann@h/d?sslmode=require"), false);
});

test("what looks like an address of something else is refused, with the right spelling, and no folder is made of it", async (t) => {
  const at = place(t);
  await (await openState(at.state, { notice: () => undefined })).close();
  for (const [named, next] of [
    ["sqlite:/a/b.db", /Write the path alone: \/a\/b\.db\./], ["sqlite:///a/b.db", /alone: \/a\/b\.db\./], ["sqlite://b.db", /alone: b\.db\./], ["sqlite3:b.db", /alone: b\.db\./], ["FILE:///a/b.json", /alone: \/a\/b\.json\./], ["json:state", /alone: state \(ending/],
    ["postgres:/a/b", /postgres:\/\/USER/], ["pg:app", /postgres:\/\/USER/], ["postgresql:ann:s3cret@h/d", /postgres:\/\/USER/], ["mysql://ann:s3cret@h/d", /postgres:\/\/HOST/], ["https://x.example/state.json", /ending in/], ["sqlite://ann:s3cret@h/x.db", /ending in/],
  ] as const) {
    for (const line of [["--state", named, "list"], ["--state", named, "add", "x"], ["copy", named, "there.json"], ["backup", "--state", at.state, named]]) {
      const ended = await pawlHere(at.folder, ...line);
      assert.equal(ended.code, 2, `${line.join(" ")}: ${ended.stderr}`);
      assert.match(ended.stderr, /A state cannot be at/, line.join(" "));
      assert.match(ended.stderr, next, line.join(" "));
      assert.doesNotMatch(ended.stderr, /s3cret/);
    }
    await assert.rejects(openState(named), { code: "usage" });
  }
  assert.deepEqual(readdirSync(at.folder), [".pawl"]);
  for (const allowed of ["./sqlite:x.db", "run-T10:00.json", "C:\\x.json", "a/file:/x.json", "./x:y", "my notes:1.json", "'x':1.json", " C:/x.json", "a=b:c.db"]) assert.equal(locate({ cwd: at.folder, env: {} }, allowed).exists, false, allowed);
});

test("an address with quotes, blanks or other words before it is refused, and no folder is made of its password", async (t) => {
  const at = place(t);
  await (await openState(at.state, { notice: () => undefined })).close();
  const url = "postgres://ann:s3cret@127.0.0.1:1/d";
  for (const named of [`"${url}"`, `'${url}'`, ` ${url}`, `\t"${url}"`, `<${url}>`, `\`${url}\``, `\u201c${url}\u201d`, `psql '${url}'`, `DATABASE_URL=${url}`, ` "Postgresql://ann:s3cret@h/d"`, '"mysql://ann:s3cret@h/d"', " file:///a/s3cret.json", " :memory:"]) {
    for (const line of [["--state", named, "list"], ["--state", named, "add", "x"], ["copy", named, "there.json"], ["copy", at.state, named], ["backup", "--state", at.state, named], ["backup", "--state", url, named]]) {
      if (named === " :memory:" && line[0] === "backup") continue;
      const ended = await pawlHere(at.folder, ...line);
      assert.equal(ended.code, 2, `${line.join(" ")}: ${ended.stderr}`);
      assert.match(ended.stderr, /without quotes or blanks around it/, line.join(" "));
      assert.doesNotMatch(ended.stderr, /s3cret/);
    }
    await assert.rejects(openState(named), { code: "usage" });
  }
  assert.deepEqual(readdirSync(at.folder), [".pawl"]);
});

test("else the nearest .pawl upward, JSON before SQLite, and one that would be made in the caller's folder", (t) => {
  const at = tree(t, "a/.pawl/state.db", "a/b/.pawl/config.json", ".pawl/state.json");
  const from = (folder: string) => locate({ cwd: at(folder), env: {} }, undefined);
  assert.deepEqual(from("a/b/c"), { url: at("a/.pawl/state.db"), exists: true });
  assert.deepEqual(from("."), { url: at(".pawl/state.json"), exists: true });
  writeFileSync(at("a/.pawl/state.json"), "");
  assert.deepEqual(from("a/b"), { url: at("a/.pawl/state.json"), exists: true });
  const bare = tree(t);
  assert.deepEqual(locate({ cwd: bare("a/b"), env: {} }, undefined), { url: bare("a/b/.pawl/state.json"), exists: false });
});

test("a state whose view was deleted is still there", (t) => {
  const at = tree(t, "a/.pawl/state.json.pawl/journal/000001.jsonl");
  assert.deepEqual(locate({ cwd: at("a/b"), env: {} }, undefined), { url: at("a/.pawl/state.json"), exists: true });
});

test("a state in a folder above that belongs to another user is not picked up", (t) => {
  if (process.getuid?.() !== 0) return t.skip("only root can give a folder away");
  const at = tree(t, "a/.pawl/state.json");
  chmodSync(at("a/b"), 0o755);
  chownSync(at("a/.pawl"), 1234, 1234);
  const from = (folder: string) => locate({ cwd: at(folder), env: {} }, undefined);
  assert.deepEqual(from("a/b"), { url: at("a/b/.pawl/state.json"), exists: false });
  assert.equal(from("a").exists, true, "in the caller's own folder it is");
  chownSync(at("a/b"), 1234, 1234);
  assert.equal(from("a/b").exists, true, "and below a folder of the same owner");
});
