// A real browser and a real server for tests of the dashboard. The browser is the machine's; nothing is installed here.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { TestContext } from "node:test";
import { chromium, type Browser, type Page } from "playwright-core";
import { systemClock } from "../../src/base/clock.ts";
import { systemRandom } from "../../src/base/id.ts";
import { hereAt, openState } from "../../src/state.ts";
import { handlesOf } from "../../src/surface/handles.ts";
import { httpApp } from "../../src/surface/http-app.ts";
import { makeLive } from "../../src/surface/http-live.ts";
import { tokenAt, tokenPath } from "../../src/surface/http-token.ts";
import { listen, namesOf } from "../../src/surface/http.ts";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The browser's program: $PAWL_TEST_BROWSER, one on the PATH, or one that playwright has fetched; null when there is none. */
export function browserPath(): string | null {
  const named = process.env["PAWL_TEST_BROWSER"];
  if (named) return named;
  const found = (process.env["PATH"] ?? "").split(delimiter).flatMap((folder) => NAMES.map((name) => join(folder, name))).find(existsSync);
  return found ?? (existsSync(chromium.executablePath()) ? chromium.executablePath() : null);
}

export const startBrowser = (path: string): Promise<Browser> =>
  chromium.launch({
    executablePath: path,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

export type Served = { readonly state: string; readonly url: string; open(page: Page, path?: string): Promise<void> };

/** A state of its own, served with the dashboard in `web`, until the test is over. */
export async function serve(t: TestContext, web: string): Promise<Served> {
  const folder = mkdtempSync(join(tmpdir(), "pawl-web-"));
  const state = join(folder, "state.json");
  await (await openState(state)).close();
  const options = { actor: "web", notice: () => undefined };
  const handles = handlesOf({ location: () => state, exists: () => true, open: (how) => openState(state, { ...options, readOnly: how?.readOnly === true }), here: async () => hereAt(state, options) });
  const live = makeLive(handles, systemClock, systemRandom.hex(4));
  const token = tokenAt(tokenPath(state, {}));
  const listening = await listen("127.0.0.1", 0, false, (port) => httpApp({ handles, live, clock: systemClock, token, names: namesOf("127.0.0.1", port), readOnly: false, root: folder, web }).fetch);
  t.after(async () => {
    live.close();
    await listening.close();
    await handles.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const url = `http://127.0.0.1:${listening.port}`;
  return {
    state,
    url,
    async open(page, path = "/") {
      await page.goto(`${url}${path}#token=${token}`);
      await page.locator(".live.is-on").waitFor();
    },
  };
}
