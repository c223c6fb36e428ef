// A TCP proxy in front of Postgres that knows just enough of its protocol to break off at a chosen moment: before a commit
// gets there, after it got there but before its answer came back, or with both ends left hanging.
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** "request": the next commit is not sent on. "answer": its answer is not. "hold": it is kept back, and nobody is told. "silence": nothing passes. */
export type Fault = "none" | "request" | "answer" | "hold" | "silence";

/** The end of an answer within a transaction; the next that the client sends is its last round trip, with the COMMIT. */
const IN_TRANSACTION = Buffer.from("Z\0\0\0\x05T", "latin1");
const COMMITTED = Buffer.from("COMMIT\0", "latin1");

export class Proxy {
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #held: (() => void)[] = [];
  #waiters: (() => void)[] = [];
  fault: Fault = "none";
  /** How often a fault happened. */
  faults = 0;

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => this.#serve(client));
  }

  static async start(target: number): Promise<Proxy> {
    const proxy = new Proxy(target);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Resolves when the next fault has happened. */
  faulted(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Sends on what was held. */
  release(): void {
    for (const send of this.#held) send();
    this.#held = [];
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #happened(): void {
    this.faults++;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }

  #serve(client: Socket): void {
    const server = connect(this.#target, "127.0.0.1");
    let inTransaction = false;
    let held = false;
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => this.#sockets.delete(socket));
    }
    client.on("close", () => void (!held && server.destroy()));
    server.on("close", () => client.destroy());

    client.on("data", (data) => {
      if (this.fault === "silence") return this.#happened();
      if (!inTransaction || (this.fault !== "request" && this.fault !== "hold")) return void server.write(data);
      if (this.fault === "request") {
        client.destroy();
      } else {
        held = true;
        this.#held.push(() => server.write(data));
      }
      this.fault = "none";
      this.#happened();
    });
    server.on("data", (data) => {
      if (this.fault === "silence") return;
      inTransaction = data.subarray(-IN_TRANSACTION.length).equals(IN_TRANSACTION);
      if (this.fault !== "answer" || inTransaction || !data.includes(COMMITTED)) return void client.write(data);
      this.fault = "none";
      client.destroy();
      this.#happened();
    });
  }
}
