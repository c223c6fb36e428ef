// The dashboard in a real browser, over the real server: what a person does there changes the state, and what changes in the
// state appears there by itself. Without a browser on the machine every test is skipped, and counted.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import type { Browser, Page } from "playwright-core";
import { askForAction, type ActionOutcome, outcomeOf } from "../../src/core/approval.ts";
import { openState, type State } from "../../src/state.ts";
import { buildWeb } from "../../scripts/web.ts";
import { browserPath, serve, startBrowser } from "./browser.ts";

const path = browserPath();
const skip = path === null ? "there is no browser here (chromium, or PAWL_TEST_BROWSER)" : false;
const web = mkdtempSync(join(tmpdir(), "pawl-web-build-"));
let browser: Browser;

before(async () => {
  if (path === null) return;
  await buildWeb(web);
  browser = await startBrowser(path);
});
/** What the tests have opened and not closed yet. */
const open = new Set<(() => unknown)[]>();

async function closeAll(closers: (() => unknown)[]): Promise<void> {
  open.delete(closers);
  for (const close of closers) await close();
}

after(async () => {
  for (const closers of open) await closeAll(closers);
  await browser?.close();
  rmSync(web, { recursive: true, force: true });
});

/** A page on a state of its own, and a handle of the state; whatever the page reports as an error fails the test. */
async function begin(t: TestContext, options: { readonly phone?: boolean; readonly dark?: boolean } = {}) {
  // A hook that fails ends the hooks of its test: what is still open then is closed at the end.
  const closers: (() => unknown)[] = [];
  const served = await serve({ after: (close: () => unknown) => void closers.push(close) } as never, web);
  const context = await browser.newContext({ viewport: options.phone ? { width: 390, height: 800 } : { width: 1280, height: 800 }, colorScheme: options.dark ? "dark" : "light" });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => message.text().includes("Content Security Policy") && errors.push(message.text()));
  // Only a task that is not there may be asked for in vain.
  page.on("response", (response) => response.status() === 404 && !/\/api\/(task_show|why)$/.test(response.url()) && errors.push(`404 ${response.url()}`));
  const state = await openState(served.state, { actor: "anna", notice: () => undefined });
  closers.unshift(() => context.close(), () => state.close());
  open.add(closers);
  t.after(async () => {
    await closeAll(closers);
    assert.deepEqual(errors, []);
  });
  return { served, page, state };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What axe finds wrong with the page as it stands, by the rules of WCAG 2.2 AA. */
async function axe(page: Page): Promise<string[]> {
  // Evaluated by the browser's tools, which the page's policy does not bind.
  await page.evaluate(AXE);
  const found = (await page.evaluate(`axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] })`)) as { violations: { id: string; nodes: { html: string }[] }[] };
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

test("an empty state teaches; a task is added by keyboard and appears", { skip }, async (t) => {
  const { served, page, state } = await begin(t);
  await served.open(page);
  await page.getByRole("heading", { name: "No tasks yet" }).waitFor();
  await page.keyboard.press("a");
  await page.getByRole("textbox", { name: "What is to be done" }).fill("Write a haiku <img src=x onerror=alert(1)>");
  await page.keyboard.press("Control+Enter");
  await page.getByRole("link", { name: /Write a haiku <img/ }).waitFor();
  const [task] = await state.tasks.list();
  assert.equal(task!.description, "Write a haiku <img src=x onerror=alert(1)>");
  assert.equal((await state.history.of(task!.id))[0]!.actor, "web");
  await served.open(page, "/tasks/99");
  await page.getByText("See what there is: tasks.").getByRole("link", { name: "tasks" }).click();
  await page.getByRole("link", { name: /Write a haiku <img/ }).waitFor();
});

test("a run is watched live, and its timeline and history opened", { skip }, async (t) => {
  const { served, page, state } = await begin(t);
  await state.tasks.addAll([{ description: "first" }, { description: "second", max_attempts: 1 }]);
  await served.open(page);
  await page.getByRole("link", { name: /first/ }).waitFor();
  const worker = state.work({
    execute: async (task, { step }) => {
      await step("read", () => ({ lines: 3 }));
      await step("send", () => {
        if (task.description === "second") throw new Error("the printer is on fire");
        return "sent";
      });
    },
  });
  await worker.idle();
  const done = page.getByRole("region", { name: /completed/ });
  await done.getByRole("link", { name: /first/ }).click();
  await page.locator(".step.is-completed", { hasText: "read" }).waitFor();
  await page.locator(".step", { hasText: "send" }).locator("summary").click();
  await page.getByText("sent", { exact: true }).waitFor();
  await page.getByText("hash chain whole").waitFor();
  await served.open(page, "/tasks/2");
  await page.locator(".step.is-failed", { hasText: "send" }).waitFor();
  await page.getByRole("button", { name: "Retry", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Retry" }).click();
  await until(state, async () => (await state.history.of(2)).filter(({ event }) => event === "claimed").length === 2);
  await worker.idle();
});

test("an action is approved as it was edited, and runs so", { skip }, async (t) => {
  const { served, page, state } = await begin(t);
  const task = await state.tasks.add({ description: "tidy up" });
  let outcome: ActionOutcome | null = null;
  const worker = state.work({
    execute: async (current, { decide }) => {
      outcome = outcomeOf(await decide("delete", askForAction({ tool: "delete", arguments: { path: "/var/log" }, risk: "external_action" }, current.id)));
    },
  });
  await served.open(page, "/inbox");
  await page.getByLabel("Arguments").fill('{ "path": "/var/log/old" }');
  await page.getByRole("button", { name: "Approve as edited" }).click();
  await page.getByText("Nothing waits for a person").waitFor();
  await until(state, async () => (await state.tasks.get(task.id)).status === "completed");
  await worker.idle();
  const { outcome: what, by } = outcome! as { outcome: string; by: string };
  assert.deepEqual([what, by, (outcome! as unknown as { arguments: object }).arguments], ["edited", "web", { path: "/var/log/old" }]);
});

test("a stuck task is taken from whoever holds it", { skip }, async (t) => {
  const { served, page, state } = await begin(t);
  await state.tasks.add({ description: "stuck" });
  await state.tasks.claim();
  await served.open(page, "/tasks/1");
  await page.getByRole("button", { name: "Take from its worker" }).click();
  await page.getByRole("dialog").getByLabel("Reason").fill("its machine is gone");
  await page.getByRole("dialog").getByRole("button", { name: "Take from its worker" }).click();
  await page.locator(".badge", { hasText: "pending" }).waitFor();
  assert.deepEqual([(await state.tasks.get(1)).worker, (await state.history.of(1)).at(-1)!.reason], [null, "its machine is gone"]);
});

test("ten thousand tasks scroll, with few rows in the document", { skip }, async (t) => {
  const { served, page, state } = await begin(t);
  for (let i = 0; i < 10; i++) await state.tasks.addAll(Array.from({ length: 1_000 }, (_, j) => ({ description: `task number ${i * 1_000 + j + 1}` })));
  await served.open(page);
  await page.getByRole("link", { name: /task number 1 / }).waitFor();
  const longest = (await page.evaluate(`(async () => {
    const box = document.querySelector(".rows");
    let last = performance.now();
    let most = 0;
    for (let i = 1; i <= 60; i++) {
      box.scrollTop = (box.scrollHeight * i) / 60;
      await new Promise(requestAnimationFrame);
      most = Math.max(most, performance.now() - last);
      last = performance.now();
    }
    return most;
  })()`)) as number;
  t.diagnostic(`longest frame while 10,000 tasks were scrolled through: ${longest.toFixed(1)} ms`);
  await page.getByRole("link", { name: /task number 10000/ }).waitFor();
  assert.ok((await page.locator(".rows li").count()) < 200);
  // The keys reach what is not in the document yet.
  await page.getByRole("link", { name: /task number 10000/ }).focus();
  for (let i = 0; i < 30; i++) await page.keyboard.press("k");
  assert.match(String(await page.evaluate("document.activeElement.textContent")), /task number 9970/);
});

test("every page is clean by axe, in light and dark, wide and narrow", { skip }, async (t) => {
  for (const how of [{}, { dark: true, phone: true }]) {
    const { served, page, state } = await begin(t, how);
    const batch = await state.batches.create(["one", "two"]);
    await state.tasks.addAll([{ description: "fails", max_attempts: 1, tags: ["a"] }, { description: "asks", deadline_at: "2099-01-01T00:00:00.000Z" }, { description: "waits" }]);
    await state.memory.store({ entity: "user", attribute: "editor", value: "vim" });
    const worker = state.work({
      concurrency: 2,
      execute: async (task, { step, decide, ask }) => {
        await step("look", () => ({ found: 1 }));
        if (task.description === "fails") throw new Error("no");
        if (task.description === "asks") await decide("act", askForAction({ tool: "send", arguments: { to: "all" }, risk: "external_action" }, task.id));
        if (task.description === "waits") await ask("which", "Which one?");
      },
    });
    await worker.idle();
    const found: string[] = [];
    for (const at of ["/", "/tasks/3", "/tasks/4", "/inbox", "/batches", `/batches/${batch.id}`, "/agents", "/memory", "/nowhere"]) {
      await served.open(page, at);
      await page.locator("main h1, main .none").first().waitFor();
      found.push(...(await axe(page)).map((what) => `${at}: ${what}`));
    }
    await page.keyboard.press("?");
    await page.getByRole("dialog").waitFor();
    found.push(...(await axe(page)).map((what) => `keys: ${what}`));
    assert.deepEqual(found, []);
    if (!how.phone) continue;
    await served.open(page);
    assert.equal(await page.evaluate("document.documentElement.scrollWidth > innerWidth"), false, "the page is wider than the phone");
  }
});

/** Resolves once `holds` does; looked at after every change of the state. */
async function until(state: State, holds: () => Promise<boolean>): Promise<void> {
  for (let looks = 0; looks < 200; looks++) {
    if (await holds()) return;
    await new Promise<void>((resolve) => {
      const end = state.watch(() => (end(), resolve()));
      setTimeout(() => (end(), resolve()), 200);
    });
  }
  assert.fail("it did not come to pass");
}
