// `npm test [-- FILTER...]`: the type check, then every tests/**/*.test.ts whose path contains a filter (all, without one).
// Invariant: exit code 0 only if the types check, at least one test file ran and none failed; what was skipped is named, with its reason.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { startPostgres, type Server } from './postgres.ts';

const started = performance.now();
const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`;
const root = join(import.meta.dirname, '..');
process.chdir(root);

const filters = process.argv.slice(2);
const files = globSync('tests/**/*.test.ts')
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
  .sort();
if (files.length === 0) {
  console.error(`test: no file tests/**/*.test.ts has a path that contains ${filters.map((filter) => `"${filter}"`).join(' or ')}`);
  process.exit(1);
}

// The dashboard has a project of its own: other globals, and JSX. The compiler is TypeScript 7, ten times as fast; its predecessor
// stays for tests and editors, which need the API that 7 does not have yet.
const checks = ['.', 'web'].map((project) => once(spawn(process.execPath, ['node_modules/typescript7/bin/tsc', '--noEmit', '-p', project], { stdio: 'inherit' }), 'exit'));
const wrong = (await Promise.all(checks)).find(([code]) => code !== 0);
if (wrong) {
  console.error(`test: the type check failed, so no test was run (${seconds()})`);
  process.exit((wrong[0] as number | null) ?? 1);
}
console.log(`types checked (${seconds()}), running ${files.length} test files`);

// One Postgres for all files, unless there is one already. Without any, the tests that need it fail and say what to do.
let server: Server | null = null;
if (!process.env['PAWL_TEST_PG_URL']) {
  try {
    server = await startPostgres();
    process.env['PAWL_TEST_PG_URL'] = server.url;
    // It ends with the tests, and what they leave in it with it.
    process.env['PAWL_TEST_PG_OURS'] = '1';
  } catch (error) {
    console.error(`test: ${(error as Error).message}`);
  }
}

// Each file is a process of its own, as each command they start: what one has compiled the others need not compile again.
process.env['NODE_COMPILE_CACHE'] ??= join(root, 'node_modules', '.cache', 'pawl-test');

const SLOWEST = 5;
const skipped: string[] = [];
const spent = new Map<string, number>();
const pathOf = (file: string | undefined): string => file?.replace(root, '').replaceAll('\\', '/').replace(/^\//, '') ?? '';
let failed = false;
// One more than two cores: many tests wait, for a disk, a lease, a process.
const events = run({ files, concurrency: 3 });
events.on('test:fail', (event) => {
  if (event.todo === undefined || event.todo === false) failed = true;
});
events.on('test:pass', ({ name, skip, file, nesting, details }) => {
  if (nesting === 0) spent.set(pathOf(file), (spent.get(pathOf(file)) ?? 0) + details.duration_ms);
  if (skip === undefined || skip === false) return;
  skipped.push(`  ${pathOf(file)}: ${name}: ${typeof skip === 'string' && skip !== '' ? skip : 'no reason given'}`);
});
const output = events.compose(new spec());
output.on('end', () => {
  console.log(`skipped: ${skipped.length}`);
  for (const line of skipped) console.log(line);
  const slowest = [...spent].sort((a, b) => b[1] - a[1]).slice(0, SLOWEST);
  console.log(`slowest: ${slowest.map(([file, ms]) => `${file} ${Math.round(ms / 1000)} s`).join(', ')}`);
  console.log(`total time: ${seconds()}`);
  process.exitCode = failed ? 1 : 0;
  void server?.stop();
});
output.pipe(process.stdout);
