// A pooler in front of Postgres in transaction mode, as pgbouncer is, and stricter: each transaction goes to another server
// connection, which forgets its session when the transaction ends (`discard all`). It knows just enough of the protocol: where
// a message ends, what the client waits for an answer to, and whether a transaction is open.
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

const SYNC = "S".charCodeAt(0);
const QUERY = "Q".charCodeAt(0);
const READY = "Z".charCodeAt(0);
const TERMINATE = "X".charCodeAt(0);
const IDLE = "I".charCodeAt(0);

/** Cuts a stream into messages: a letter, the length of what follows with itself, and so many bytes. */
function messages(each: (message: Buffer) => void): (data: Buffer) => void {
  let rest = Buffer.alloc(0);
  return (data) => {
    rest = Buffer.concat([rest, data]);
    while (rest.length >= 5 && rest.length >= 1 + rest.readInt32BE(1)) {
      const end = 1 + rest.readInt32BE(1);
      each(rest.subarray(0, end));
      rest = rest.subarray(end);
    }
  };
}

function query(text: string): Buffer {
  const message = Buffer.alloc(1 + 4 + Buffer.byteLength(text) + 1);
  message.writeUInt8(QUERY, 0);
  message.writeInt32BE(message.length - 1, 1);
  message.write(text, 5);
  return message;
}

/** A connection to the server: whoever has it gets its messages. */
type Backend = { readonly socket: Socket; readonly login: Buffer; take: (message: Buffer) => void };

export class Pooler {
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  readonly #free: Backend[] = [];
  readonly #waiting: ((backend: Backend) => void)[] = [];
  #room: number;
  /** How many transactions it handed out, and how often to another connection than the client's last. */
  transactions = 0;
  moves = 0;

  private constructor(target: number, size: number) {
    this.#target = target;
    this.#room = size;
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(target: number, size: number): Promise<Pooler> {
    const pooler = new Pooler(target, size);
    pooler.#server.listen(0, "127.0.0.1");
    await once(pooler.#server, "listening");
    return pooler;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
    return socket;
  }

  #serve(client: Socket): void {
    this.#keep(client);
    // The first packet, which has no letter, says who it is: all are the same user here.
    client.once("data", (startup: Buffer) => {
      client.on("data", messages(this.#session(client, startup)));
      void this.#acquire(startup).then((backend) => {
        client.write(backend.login);
        this.#free.push(backend);
        this.#next();
      });
    });
  }

  /** What becomes of each message of a client: gathered until it waits for an answer, then sent on the connection of its transaction. */
  #session(client: Socket, startup: Buffer): (message: Buffer) => void {
    let gathered: Buffer[] = [];
    let backend: Promise<Backend> | null = null;
    let last: Backend | null = null;
    let unanswered = 0;
    client.on("close", () => void backend?.then(({ socket }) => this.#replace(socket)));
    const begin = async (): Promise<Backend> => {
      const taken = await this.#acquire(startup, last);
      this.transactions++;
      if (last !== null && last !== taken) this.moves++;
      last = taken;
      taken.take = (message) => {
        client.write(message);
        if (message[0] !== READY || --unanswered > 0 || message[5] !== IDLE) return;
        backend = null;
        this.#release(taken);
      };
      return taken;
    };
    return (message) => {
      if (message[0] === TERMINATE) return void client.end();
      gathered.push(message);
      if (message[0] !== SYNC && message[0] !== QUERY) return;
      const group = Buffer.concat(gathered);
      gathered = [];
      unanswered++;
      backend ??= begin();
      void backend.then(({ socket }) => socket.write(group));
    };
  }

  /** Another than the client's last, as long as another is free. */
  async #acquire(startup: Buffer, last: Backend | null = null): Promise<Backend> {
    const at = this.#free.findIndex((backend) => backend !== last);
    const [free] = this.#free.splice(Math.max(at, 0), 1);
    if (free && (at >= 0 || this.#room === 0)) return free;
    if (free) this.#free.unshift(free);
    if (this.#room === 0) return new Promise((resolve) => this.#waiting.push(resolve));
    this.#room--;
    return this.#connect(startup);
  }

  #connect(startup: Buffer): Promise<Backend> {
    return new Promise((resolve) => {
      const socket = this.#keep(connect(this.#target, "127.0.0.1"));
      const login: Buffer[] = [];
      let backend: Backend | null = null;
      socket.write(startup);
      socket.on("data", messages((message) => {
        if (backend) return backend.take(message);
        login.push(message);
        if (message[0] === READY) resolve((backend = { socket, login: Buffer.concat(login), take: () => undefined }));
      }));
    });
  }

  #release(backend: Backend): void {
    backend.take = (message) => {
      if (message[0] !== READY) return;
      // Behind all others, so that the same client gets another the next time.
      this.#free.push(backend);
      this.#next();
    };
    backend.socket.write(query("discard all"));
  }

  #next(): void {
    const waiting = this.#free.length > 0 ? this.#waiting.shift() : undefined;
    waiting?.(this.#free.shift()!);
  }

  /** A client left in the middle of a transaction. */
  #replace(socket: Socket): void {
    socket.destroy();
    this.#room++;
  }
}
