// The work of the demo: `write FILE` makes an index card of a source file, `check` judges the card of the task on stdin.
// On purpose it stumbles twice: the second task fails once, and the third forgets its exports until the review says so.
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const folder = process.env["PAWL_DEMO_FOLDER"]!;
const task = JSON.parse(readFileSync(0, "utf8")) as { id: number; description: string };
const place = (file: string) => join(folder, `${basename(file)}.card`);

if (process.argv[2] === "check") check();
else await write(process.argv[3]!);

async function write(file: string): Promise<void> {
  const attempt = Number(process.env["PAWL_ATTEMPT"]);
  appendFileSync(process.env["PAWL_DEMO_LOG"]!, `task ${task.id} attempt ${attempt}\n`);
  await new Promise((resolve) => setTimeout(resolve, 250));
  if (task.id === 2 && attempt === 1) {
    console.error("the disk was busy for a moment");
    process.exit(1);
  }
  const source = readFileSync(file, "utf8");
  const about = /^\/\/ (.*)$/m.exec(source)?.[1] ?? "";
  const names = [...source.matchAll(/^export (?:async )?(?:function|const|class|type) (\w+)/gm)].map((match) => match[1]);
  const forgets = task.id === 3 && !process.env["PAWL_FEEDBACK"];
  writeFileSync(place(file), `${basename(file)}: ${about}\n${forgets ? "" : `exports: ${names.join(", ")}\n`}`);
  console.log(`${basename(file)}.card, ${names.length} exports`);
}

function check(): void {
  const file = place(task.description.split(" ").at(-1)!);
  if (!existsSync(file)) fail(`There is no ${basename(file)}.`);
  if (!readFileSync(file, "utf8").includes("exports:")) fail(`${basename(file)} does not list the exports.`);
}

function fail(reason: string): never {
  console.log(reason);
  process.exit(1);
}
