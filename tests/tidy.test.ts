// The rules of the architecture (ARCHITECTURE.md), made executable over every file that git tracks or would track.
// Each rule proves on a bad sample that it can fail, then runs over the checkout; a finding says file:line, what is wrong and why.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { posix, join } from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';

type Source = { path: string; text: string; ast: ts.SourceFile };
type Finding = { line: number; what: string };
type Rule = {
  name: string;
  why: string;
  check: (source: Source) => Finding[];
  bad: [path: string, text: string][];
  good: [path: string, text: string][];
};

const root = join(import.meta.dirname, '..');

/* ---------- what is read ---------- */

/** What is not a script has an empty tree: rules that look at code find nothing in it. */
function parse(path: string, text: string): Source {
  return { path, text, ast: ts.createSourceFile(path, isScript(path) ? text : '', ts.ScriptTarget.ESNext, true) };
}

function readCheckout(): Source[] {
  const git = spawnSync('git', ['ls-files', '-z', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8', maxBuffer: 1e8 });
  assert.equal(git.status, 0, `git ls-files failed, so there is nothing to check: ${git.error?.message ?? git.stderr}`);
  const paths = [...new Set(git.stdout.split('\0'))].filter((path) => path !== '' && existsSync(join(root, path)));
  return paths
    .map((path) => parse(path, readFileSync(join(root, path), 'utf8')))
    .filter(({ text }) => !text.includes('\0')); // pictures and the like
}

function isScript(path: string): boolean {
  return /\.(ts|tsx|mts|mjs|js)$/.test(path);
}

const inSrc = (path: string): boolean => path.startsWith('src/') && isScript(path);
const lineAt = (source: Source, position: number): number => source.ast.getLineAndCharacterOfPosition(position).line + 1;

function visit(node: ts.Node, look: (node: ts.Node) => void): void {
  look(node);
  ts.forEachChild(node, (child) => visit(child, look));
}

/** Findings for every node that `look` names something wrong with. */
function findNodes(source: Source, look: (node: ts.Node) => string | undefined): Finding[] {
  const findings: Finding[] = [];
  visit(source.ast, (node) => {
    const what = look(node);
    if (what !== undefined) findings.push({ line: lineAt(source, node.getStart()), what });
  });
  return findings;
}

/** Findings for every match in the plain text, comments and strings included. */
function findText(source: Source, pattern: RegExp): Finding[] {
  return source.text.split('\n').flatMap((line, index) => {
    const match = pattern.exec(line);
    return match ? [{ line: index + 1, what: `contains "${match[0]}"` }] : [];
  });
}

/* ---------- imports ---------- */

type Import = { target: string; typeOnly: boolean; line: number };

/** The files of this checkout that a file imports, also by export-from, import() and import types. */
function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean): void => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier) || !specifier.text.startsWith('.')) return;
    const target = posix.join(posix.dirname(source.path), specifier.text).replace(/\.js$/, '.ts');
    found.push({ target, typeOnly, line: lineAt(source, specifier.getStart()) });
  };
  visit(source.ast, (node) => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
  });
  return found;
}

const ROOMS = ['base', 'store', 'core', 'worker', 'agent', 'state', 'operations', 'surface'];
const ENTRIES = ['src/index.ts', 'src/testing.ts'];
const CONTRACT = 'src/store/store.ts';
/** A store of several files, and the suite that all stores pass. */
const OF_A_STORE = /^src\/store\/(json|sqlite|postgres|conformance)\/[^/]+$/;
const KNOW_ALL_STORES = ['src/state/opening.ts', 'src/testing.ts'];

/** src/core/task.ts is in the room core, src/state.ts in the room state. */
function roomOf(path: string): string {
  return path.split('/')[1]?.replace(/\.ts$/, '') ?? '';
}

function wrongArrow(from: string, target: string): string | undefined {
  if (!target.startsWith('src/')) return `imports ${target}, which is outside src/`;
  const [own, other] = [OF_A_STORE.exec(from)?.[1], OF_A_STORE.exec(target)?.[1]];
  if (own !== undefined && other !== undefined && own !== other) return `imports ${target}: a store knows no other store; what several need stands in src/store`;
  if (roomOf(from) === roomOf(target)) return undefined;
  if (target.startsWith('src/store/') && target !== CONTRACT && !KNOW_ALL_STORES.includes(from)) {
    return `imports ${target}: only src/state/opening.ts and src/testing.ts know the stores, everyone else imports ${CONTRACT}`;
  }
  if (ENTRIES.includes(from)) return undefined;
  if (ENTRIES.includes(target)) return `imports ${target}, which is for users of the package`;
  const [here, there] = [ROOMS.indexOf(roomOf(from)), ROOMS.indexOf(roomOf(target))];
  if (here < 0) return `is in "${roomOf(from)}", which is none of the rooms ${ROOMS.join(', ')}`;
  if (there < 0) return `imports ${target}, which is in none of the rooms ${ROOMS.join(', ')}`;
  return there < here ? undefined : `imports ${target}: ${roomOf(target)} is to the right of ${roomOf(from)}`;
}

/** The files of one import cycle in order, the first repeated at the end; undefined when there is none. */
function importCycle(sources: Source[]): string[] | undefined {
  const graph = new Map(sources.map((source) => [source.path, importsOf(source).map(({ target }) => target)]));
  const done = new Set<string>();
  const search = (path: string, trail: string[]): string[] | undefined => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    if (done.has(path)) return undefined;
    for (const target of graph.get(path) ?? []) {
      const cycle = search(target, [...trail, path]);
      if (cycle !== undefined) return cycle;
    }
    done.add(path);
    return undefined;
  };
  for (const path of graph.keys()) {
    const cycle = search(path, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

/* ---------- sizes and headers ---------- */

const FUNCTION_LINES = 70;
const TEST_CALLS = ['describe', 'it', 'test', 'suite', 'before', 'after', 'beforeEach', 'afterEach'];

const fileLines = (path: string): number => (path.startsWith('tests/') ? 600 : 400);

function countLines(text: string): number {
  return text.replace(/\n$/, '').split('\n').length;
}

function isTestCallback(node: ts.Node): boolean {
  const call = node.parent;
  if (!ts.isCallExpression(call) || call.expression === node) return false;
  const callee = ts.isPropertyAccessExpression(call.expression) ? call.expression.name : call.expression;
  return ts.isIdentifier(callee) && TEST_CALLS.includes(callee.text);
}

function longFunction(source: Source, node: ts.Node): string | undefined {
  if (!ts.isFunctionLike(node) || !('body' in node) || node.body === undefined || isTestCallback(node)) return undefined;
  const lines = lineAt(source, node.end) - lineAt(source, node.getStart()) + 1;
  const name = node.name !== undefined ? `function ${node.name.getText()}` : 'a function';
  return lines > FUNCTION_LINES ? `${name} has ${lines} lines, ${FUNCTION_LINES} are allowed` : undefined;
}

/** How many lines the comment takes that opens the file (after a shebang); 0 when it opens with something else. */
function headerLines(text: string): number {
  const lines = text.replace(/^#!.*\n/, '').split('\n');
  if (lines[0]?.startsWith('/*')) return lines.findIndex((line) => line.includes('*/')) + 1;
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return end < 0 ? lines.length : end;
}

/* ---------- words, time, inheritance ---------- */

// Put together from halves, so that this file does not hold the words it bans.
const UNFINISHED = new RegExp(`\\b(TO${'DO'}|FIX${'ME'})\\b`);
const MACHINE_WORDS = new RegExp(['/wo' + 'rk/', 'fa' + 'rm-', '\\.lib' + 'rary'].join('|'));
const VAGUE_NAMES = ['utils', 'helpers', 'common', 'types', 'lib', 'main', 'manager', 'service'];
const TIMERS = ['setTimeout', 'setInterval'];
const HIDDEN_INPUTS = ['Date.now', 'Math.random', 'performance.now', 'process.hrtime', ...TIMERS.map((timer) => `globalThis.${timer}`)];

/** `a.b` and `a['b']` as "a.b"; the `globalThis.` before a longer chain is dropped. */
function memberName(node: ts.Node): string | undefined {
  if (ts.isPropertyAccessExpression(node)) return `${node.expression.getText().replace(/^globalThis\./, '')}.${node.name.text}`;
  if (!ts.isElementAccessExpression(node) || !ts.isStringLiteralLike(node.argumentExpression)) return undefined;
  return `${node.expression.getText().replace(/^globalThis\./, '')}.${node.argumentExpression.text}`;
}

function hiddenInput(node: ts.Node): string | undefined {
  const member = memberName(node);
  if (member !== undefined && HIDDEN_INPUTS.includes(member)) return `uses ${member}`;
  if (ts.isNewExpression(node) && node.expression.getText() === 'Date' && !node.arguments?.length) return 'uses new Date() without a time';
  if (!ts.isIdentifier(node) || !TIMERS.includes(node.text)) return undefined;
  // A member, a property or a type that merely has the name is nobody's timer; an import of it and a bare use of it are.
  const { parent } = node;
  const onlyAName = ts.isPropertyAccessExpression(parent) || ts.isTypeQueryNode(parent) || ts.isTypeElement(parent) || ts.isClassElement(parent) ||
    (ts.isPropertyAssignment(parent) && parent.name === node);
  return onlyAName ? undefined : `uses ${node.text}`;
}

function inherits(node: ts.Node): string | undefined {
  if (!ts.isHeritageClause(node) || node.token !== ts.SyntaxKind.ExtendsKeyword || !ts.isClassLike(node.parent)) return undefined;
  const parent = node.types[0]?.expression.getText();
  return parent === 'Error' ? undefined : `a class extends ${parent}`;
}

function focuses(node: ts.Node): string | undefined {
  const call = ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === 'only';
  const option = ts.isPropertyAssignment(node) && node.name.getText() === 'only' && node.initializer.kind === ts.SyntaxKind.TrueKeyword;
  return call || option ? 'runs only one test' : undefined;
}

/* ---------- the rules ---------- */

const header = '// What it is.\n';
const atTop = (what: string | undefined): Finding[] => (what === undefined ? [] : [{ line: 1, what }]);

const rules: Rule[] = [
  {
    name: `hazard 4: imports point left: ${ROOMS.join(' <- ')}`,
    why: 'a layer that knows nothing of those built on it can be read, tested and replaced alone',
    check: (source) => {
      if (!inSrc(source.path)) return [];
      return importsOf(source).flatMap(({ target, line }) => {
        const what = wrongArrow(source.path, target);
        return what === undefined ? [] : [{ line, what }];
      });
    },
    bad: [
      ['src/base/id.ts', `import { task } from '../core/task.ts';`],
      ['src/base/id.ts', `import type { Task } from '../core/task.ts';`],
      ['src/core/task.ts', `export * from '../store/memory.ts';`],
      ['src/core/task.ts', `await import('../state.ts');`],
      ['src/core/task.ts', `type T = import('../worker/run.ts').T;`],
      ['src/surface/cli.ts', `import { memory } from '../store/json/files.ts';`],
      ['src/store/sqlite/table.ts', `import { quote } from '../postgres/sql.ts';`],
      ['src/operations.ts', `import { openState } from './index.ts';`],
      ['src/extra/x.ts', `import { id } from '../base/id.ts';`],
      ['src/base/id.ts', `import { x } from '../../tests/x.ts';`],
    ],
    good: [
      ['src/core/task.ts', `import type { Store } from '../store/store.ts'; import './run.ts'; import '../base/id.ts'; import 'node:fs';`],
      ['src/store/json/files.ts', `import { id } from '../../base/id.ts'; import '../store.ts'; import '../memory.ts';`],
      ['src/state/opening.ts', `import '../store/sqlite/sqlite.ts'; import '../agent/loop.ts';`],
      ['src/testing.ts', `import './store/memory.ts'; import './state.ts';`],
      ['src/index.ts', `export * from './surface/http.ts';`],
    ],
  },
  {
    name: 'the dashboard imports only types from src',
    why: 'it runs in a browser and reaches the state through operations alone',
    check: (source) => {
      if (!source.path.startsWith('web/') || !isScript(source.path)) return [];
      const values = importsOf(source).filter(({ target, typeOnly }) => target.startsWith('src/') && !typeOnly);
      return values.map(({ target, line }) => ({ line, what: `imports values from ${target}; use "import type"` }));
    },
    bad: [['web/tasks.ts', `import { operations } from '../src/operations.ts';`]],
    good: [['web/tasks.ts', `import type { Task } from '../src/core/task.ts';`]],
  },
  {
    name: 'a file has at most 400 lines (a test 600)',
    why: 'a file should be understood in one sitting',
    check: ({ path, text }) => {
      const lines = countLines(text);
      return isScript(path) && lines > fileLines(path) ? [{ line: fileLines(path) + 1, what: `has ${lines} lines, ${fileLines(path)} are allowed` }] : [];
    },
    bad: [['src/core/task.ts', 'x;\n'.repeat(401)], ['tests/task.test.ts', 'x;\n'.repeat(601)], ['scripts/demo.ts', 'x;\n'.repeat(401)]],
    good: [['src/core/task.ts', 'x;\n'.repeat(400)], ['tests/task.test.ts', 'x;\n'.repeat(600)], ['README.md', 'x\n'.repeat(900)]],
  },
  {
    name: `a function in src has at most ${FUNCTION_LINES} lines`,
    why: 'a function should be seen at once',
    check: (source) => (inSrc(source.path) ? findNodes(source, (node) => longFunction(source, node)) : []),
    bad: [
      ['src/core/task.ts', `function f() {\n${'x;\n'.repeat(69)}}`],
      ['src/core/task.ts', `const f = () => {\n${'x;\n'.repeat(69)}};`],
      ['src/core/task.ts', `class A { m() {\n${'x;\n'.repeat(69)}} }`],
    ],
    good: [['src/core/task.ts', `function f() {\n${'x;\n'.repeat(68)}}`], ['src/store/conformance/conformance.ts', `test('t', () => {\n${'x;\n'.repeat(90)}});`]],
  },
  {
    name: 'a script opens with a comment of one to six lines',
    why: 'it says what the file is and which invariant it keeps, before any code',
    check: ({ path, text }) => {
      const lines = headerLines(text);
      if (!isScript(path) || (lines >= 1 && lines <= 6)) return [];
      return atTop(lines === 0 ? 'does not open with a comment' : `opens with a comment of ${lines} lines`);
    },
    bad: [['src/a.ts', 'x;\n// late'], ['src/a.ts', '// x\n'.repeat(7)], ['src/a.ts', `/*\n${'x\n'.repeat(6)}*/\nx;`], ['src/a.ts', '#!/usr/bin/env node\nx;'], ['src/a.ts', '']],
    good: [['src/a.ts', '// x\n'.repeat(6) + 'x;'], ['src/a.ts', '#!/usr/bin/env node\n// x\n\n/** y */\nx;'], ['src/a.ts', '/* x\n * y */\nx;'], ['docs/a.md', 'x']],
  },
  {
    name: `no file or folder of scripts is called ${VAGUE_NAMES.join(', ')}`,
    why: 'such names say nothing and collect everything; a type lives with its noun',
    check: ({ path }) => {
      const vague = path.split('/').map((part) => part.split('.')[0] ?? '').find((part) => VAGUE_NAMES.includes(part.toLowerCase()));
      return isScript(path) ? atTop(vague && `is called "${vague}"`) : [];
    },
    bad: [['src/core/types.ts', header], ['src/utils/time.ts', header], ['tests/helpers.test.ts', header]],
    good: [['src/core/task.ts', header], ['.github/workflows/main.yml', ''], ['src/core/maintain.ts', header]],
  },
  {
    name: 'time and randomness come only from src/base',
    why: 'they are passed in everywhere else, so that the whole system runs in a deterministic simulation',
    check: (source) => (inSrc(source.path) && !source.path.startsWith('src/base/') ? findNodes(source, hiddenInput) : []),
    bad: [
      'Date.now()', `Date['now']()`, 'new Date()', 'Math.random()', 'const now = performance.now;', 'process.hrtime.bigint()', 'globalThis.Date.now()',
      'setTimeout(f, 1)', 'const wait = setInterval;', 'globalThis.setTimeout(f, 1)', `import { setTimeout as sleep } from 'node:timers/promises';`,
    ].map((code) => ['src/core/task.ts', code]),
    good: [
      ['src/base/clock.ts', 'Date.now(); setTimeout(f, 1);'],
      ['src/core/task.ts', `// Date.now()\nconst a = 'Math.random()'; new Date(5); setImmediate(f); clock.setTimeout(f, 1); type T = typeof setTimeout;`],
      ['tests/task.test.ts', 'Date.now()'],
    ],
  },
  {
    name: 'no class inherits, but from Error',
    why: 'behaviour is put together from functions, so that it stands where it is read',
    check: (source) => findNodes(source, inherits),
    bad: [['src/core/task.ts', 'class A extends B {}'], ['src/core/task.ts', 'export const a = class extends B.C {};']],
    good: [['src/base/errors.ts', 'class A extends Error {} interface I extends J {} type T<X extends Y> = X; class C implements D {}']],
  },
  {
    name: 'folders under src are one level deep (a store of several files has one of its own in src/store)',
    why: 'the folder is the layer, and there is no layer within a layer',
    check: ({ path }) => atTop(/^src\/[^/]+\/[^/]+\//.test(path) && !OF_A_STORE.test(path) ? 'is too deep' : undefined),
    bad: [['src/core/tasks/task.ts', header], ['src/store/json/journal/write.ts', header]],
    good: [['src/core/task.ts', header], ['src/store/json/journal.ts', header], ['src/store/postgres/sql.ts', header], ['src/index.ts', header]],
  },
  {
    name: 'nothing is left unfinished in a note',
    why: 'what is not done is either done now or written down where users and maintainers look',
    check: (source) => findText(source, UNFINISHED),
    bad: [['src/a.ts', `// TO${'DO'}: later`], ['README.md', `FIX${'ME'}`]],
    good: [['src/a.ts', '// a todo list']],
  },
  {
    name: 'no file speaks of the machine it was written on',
    why: 'the project is read and run elsewhere',
    check: (source) => findText(source, MACHINE_WORDS),
    bad: [['README.md', 'see /wo' + 'rk/x'], ['.ci/run', 'fa' + 'rm-tool'], ['src/a.ts', '// .lib' + 'rary']],
    good: [['README.md', 'how it works, the work / play of a library on a farm']],
  },
  {
    name: 'no test is focused with only',
    why: 'it would silently switch off the others',
    check: (source) => (source.path.startsWith('tests/') ? findNodes(source, focuses) : []),
    bad: [['tests/a.test.ts', `test.only('x', f)`], ['tests/a.test.ts', `test('x', { only: true }, f)`]],
    good: [['tests/a.test.ts', `test('only', f); // test.only(`]],
  },
];

/* ---------- the tests ---------- */

const checkout = readCheckout();

for (const rule of rules) {
  test(rule.name, () => {
    for (const [path, text] of rule.bad) assert.notDeepEqual(rule.check(parse(path, text)), [], `the rule misses a bad sample: ${path}: ${text.slice(0, 80)}`);
    for (const [path, text] of rule.good) assert.deepEqual(rule.check(parse(path, text)), [], `the rule flags a good sample: ${path}: ${text.slice(0, 80)}`);
    const findings = checkout.flatMap((source) => rule.check(source).map(({ line, what }) => `${source.path}:${line} ${what}`));
    if (findings.length > 0) assert.fail(`\n${findings.join('\n')}\nrule: ${rule.name}\nwhy: ${rule.why}`);
  });
}

test('imports in src form no cycle', () => {
  const ring = [parse('src/core/a.ts', `import './b.ts';`), parse('src/core/b.ts', `import type { C } from './c.ts';`), parse('src/core/c.ts', `export * from './a.ts';`)];
  assert.deepEqual(importCycle(ring), ['src/core/a.ts', 'src/core/b.ts', 'src/core/c.ts', 'src/core/a.ts']);
  assert.equal(importCycle(ring.slice(0, 2)), undefined);
  const cycle = importCycle(checkout.filter(({ path }) => inSrc(path)));
  if (cycle !== undefined) assert.fail(`\n${cycle[0]}:1 imports itself: ${cycle.join(' -> ')}\nwhy: files in a ring can only be understood all at once`);
});

/** A name that several files have counts only with its room before it: task.ts, but core/task.ts when worker/task.ts exists. */
function unnamedIn(map: string, paths: string[]): string[] {
  return paths.filter((path) => {
    const base = posix.basename(path);
    const unique = paths.filter((other) => posix.basename(other) === base).length === 1;
    const name = (unique ? base : path.replace(/^src\//, '')).replaceAll('.', '\\.');
    return !new RegExp(`(?<![\\w.-])${name}(?![\\w-])`).test(map);
  });
}

test('every file in src is named in ARCHITECTURE.md', (t) => {
  const sample = ['src/core/task.ts', 'src/worker/task.ts', 'src/core/run.ts'];
  assert.deepEqual(unnamedIn('core/task.ts, dry-run.ts', sample), ['src/worker/task.ts', 'src/core/run.ts']);
  assert.deepEqual(unnamedIn('`core/task.ts` src/worker/task.ts (run.ts)', sample), []);
  const map = checkout.find(({ path }) => path === 'ARCHITECTURE.md');
  if (map === undefined) return t.skip('ARCHITECTURE.md does not exist yet, so there is no map to compare src with');
  const findings = unnamedIn(map.text, checkout.map(({ path }) => path).filter(inSrc)).map((path) => `${path}:1 is not named in ARCHITECTURE.md`);
  if (findings.length > 0) assert.fail(`\n${findings.join('\n')}\nwhy: the map must show every file, or nobody can trust it`);
});
