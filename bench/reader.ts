// A dashboard that polls: `pawl ui` in a process of its own, asked ten times a second for the status and a page of tasks.
// Called by table.ts: node reader.ts STATE; prints a line once it polls, and goes on until it is ended.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const EVERY_MS = 100;
const bin = join(import.meta.dirname, "..", "src", "surface", "bin.ts");
const server = spawn(process.execPath, [bin, "--state", process.argv[2]!, "--json", "ui", "--port", "0", "--read-only"], { stdio: ["ignore", "pipe", "ignore"] });
process.on("SIGTERM", () => {
  server.kill("SIGTERM");
  process.exit(0);
});
createInterface(server.stdout).once("line", (line) => {
  const { url, token_file } = (JSON.parse(line) as { data: { url: string; token_file: string } }).data;
  const headers = { authorization: `Bearer ${readFileSync(token_file, "utf8").trim()}`, "content-type": "application/json" };
  const ask = async (name: string, input: object) => {
    const response = await fetch(`${url}api/${name}`, { method: "POST", headers, body: JSON.stringify(input) });
    if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  };
  let asking = false;
  setInterval(() => {
    if (asking) return;
    asking = true;
    Promise.all([ask("status", {}), ask("task_list", { limit: 100 })]).finally(() => (asking = false));
  }, EVERY_MS);
  process.stdout.write("ready\n");
});
