// The package as a user gets it: packed, installed into an empty folder, started on a new and on an old Node.
// Invariant: everything the manifest names is in the tarball, nothing of the checkout's tests is, and an old Node gets a sentence, not a stack.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

type Result = { status: number | null; stdout: string; stderr: string };

const root = join(import.meta.dirname, '..');
const MEGABYTE = 1024 * 1024;
// The last Node 20: the version most machines still have that is too old.
const OLD_NODE = '20.20.2';

function execute(command: string, args: string[], cwd: string): Result {
  const result = spawnSync(command, args, { cwd, encoding: 'utf8', shell: process.platform === 'win32', maxBuffer: 64 * MEGABYTE });
  if (result.error) throw result.error;
  return result;
}

function tooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  return major < 22 || (major === 22 && minor < 18);
}

/** A Node too old for Pawl: the one that called the launcher, when it is, else one fetched from npm. */
function oldNode(): { path: string } | { problem: string } {
  const caller = process.env['PAWL_CALLER_NODE'];
  if (caller !== undefined && tooOld(execute(caller, ['--version'], root).stdout)) return { path: caller };
  const fetched = execute(process.execPath, ['scripts/node.mjs', '--fetch', OLD_NODE], root);
  return fetched.status === 0 ? { path: fetched.stdout.trim() } : { problem: fetched.stderr.trim() };
}

/** Every path a manifest's exports and bin lead to. */
function namedFiles(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(namedFiles) : [];
}

test('the packed package', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-package-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));

  const packed = execute('npm', ['pack', '--pack-destination', folder], root);
  assert.equal(packed.status, 0, `npm pack failed:\n${packed.stdout}${packed.stderr}`);
  const tarball = readdirSync(folder).find((name) => /^pawl-.*\.tgz$/.test(name)) ?? assert.fail('npm pack left no pawl-*.tgz');
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n'); // keeps npm from installing into a folder further up
  const installed = execute('npm', ['install', `./${tarball}`, '--no-audit', '--no-fund', '--prefer-offline'], folder);
  if (installed.status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH/.test(installed.stderr)) {
    return t.skip('the npm registry cannot be reached, so the package could not be installed');
  }
  assert.equal(installed.status, 0, `npm install failed:\n${installed.stdout}${installed.stderr}`);

  const home = join(folder, 'node_modules/pawl');
  const manifest = JSON.parse(readFileSync(join(home, 'package.json'), 'utf8'));
  const files = readdirSync(home, { recursive: true, encoding: 'utf8' })
    .map((path) => path.replaceAll('\\', '/'))
    .filter((path) => statSync(join(home, path)).isFile());

  await t.test('holds every file that its manifest names', () => {
    const named = [...namedFiles(manifest.exports), ...namedFiles(manifest.bin)];
    assert.ok(named.length >= 5, 'the manifest names too few files for this test to mean anything');
    assert.deepEqual(named.filter((path) => !existsSync(join(home, path))), []);
    assert.deepEqual(['README.md', 'LICENSE', 'CHANGELOG.md'].filter((path) => !files.includes(path)), []);
  });

  await t.test('holds no tests, no sources and nothing large', () => {
    assert.deepEqual(files.filter((path) => /^(src|tests|bench|examples|scripts|\.)|\.test\.|(?<!\.d)\.ts$/.test(path)), []);
    const sizes = files.map((path) => ({ path, bytes: statSync(join(home, path)).size }));
    assert.deepEqual(sizes.filter(({ bytes }) => bytes > MEGABYTE), []);
    const total = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
    assert.ok(total < 5 * MEGABYTE, `the package takes ${total} bytes`);
  });

  await t.test('installs no package that runs a script', () => {
    const lock = JSON.parse(readFileSync(join(folder, 'node_modules/.package-lock.json'), 'utf8'));
    const entries = Object.entries<{ hasInstallScript?: boolean }>(lock.packages);
    assert.ok(entries.length > 1);
    assert.deepEqual(entries.filter(([, entry]) => entry.hasInstallScript).map(([path]) => path), []);
  });

  await t.test('can be imported', () => {
    writeFileSync(join(folder, 'use.mjs'), `import 'pawl';\nimport 'pawl/testing';\n`);
    const used = execute(process.execPath, ['use.mjs'], folder);
    assert.equal(used.status, 0, used.stderr);
  });

  await t.test('prints its version on this Node', () => {
    const shown = execute(join('node_modules', '.bin', 'pawl'), ['--version'], folder);
    assert.equal(shown.status, 0, shown.stderr);
    assert.ok(shown.stdout.includes(manifest.version), shown.stdout);
  });

  await t.test('says what, why and what next on a Node that is too old', (t) => {
    const old = oldNode();
    if ('problem' in old) return t.skip(`no old Node to try it on: ${old.problem}`);
    const shown = execute(old.path, [join(home, manifest.bin.pawl), '--version'], folder);
    assert.equal(shown.status, 1, `exit code ${shown.status}\n${shown.stderr}`);
    assert.equal(shown.stdout, '');
    assert.doesNotMatch(shown.stderr, /^\s+at |node:internal|SyntaxError/m, 'a stack instead of a sentence');
    assert.match(shown.stderr, /22\.18/, 'what it needs');
    assert.ok(shown.stderr.includes(execute(old.path, ['--version'], folder).stdout.trim().replace(/^v/, '')), `which Node it found: ${shown.stderr}`);
    assert.match(shown.stderr, /nodejs\.org/, 'what next');
  });
});
