// A list of tasks that may be long, held page by page: only what is looked at is loaded, and loaded again when the state has
// changed. Pages follow each other by id; when one ends elsewhere than before, those behind it are loaded anew.
import type { Task } from "../src/core/records.ts";
import { ApiError, call } from "./api.ts";

/** Rows of one request. */
const PAGE = 200;

type Page = { readonly rows: readonly Task[]; stale: boolean };

export type TaskPages = {
  rowAt(index: number): Task | undefined;
  /** Rows that are loaded, and whether these are all. */
  loaded(): { readonly rows: number; readonly whole: boolean };
  /** Says which rows are in sight. */
  look(first: number, last: number): void;
  /** Something changed: what is in sight is asked again. */
  refresh(): void;
  end(): void;
};

export function taskPages(filter: object, changed: (error: ApiError | null) => void): TaskPages {
  const pages: Page[] = [];
  const stop = new AbortController();
  let sight = { first: 0, last: PAGE - 1 };
  let whole = false;
  let busy = false;

  /** The page to ask for next: in sight, and stale or not there. */
  const wanted = (): number | null => {
    for (let k = 0; k * PAGE <= sight.last; k++) {
      const page = pages[k];
      if (!page) return whole ? null : k;
      if (page.stale && (k + 1) * PAGE > sight.first) return k;
    }
    return null;
  };

  const fill = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    try {
      for (let k = wanted(); k !== null; k = wanted()) {
        const after = k === 0 ? undefined : pages[k - 1]!.rows.at(-1)?.id;
        const { data } = await call<Task[]>("task_list", { ...filter, limit: PAGE, ...(after === undefined ? {} : { after }) }, stop.signal);
        const before = pages[k];
        pages[k] = { rows: data, stale: false };
        const full = data.length === PAGE;
        if (!full || (before && before.rows.at(-1)?.id !== data.at(-1)?.id)) pages.length = k + 1;
        if (!full || before) whole = !full || (whole && pages.length > k + 1);
        changed(null);
      }
    } catch (error) {
      if (!stop.signal.aborted) changed(error as ApiError);
    } finally {
      busy = false;
    }
  };

  void fill();
  return {
    rowAt: (index) => pages[Math.floor(index / PAGE)]?.rows[index % PAGE],
    loaded: () => ({ rows: pages.reduce((sum, { rows }) => sum + rows.length, 0), whole }),
    look(first, last) {
      sight = { first, last };
      void fill();
    },
    refresh() {
      for (const page of pages) page.stale = true;
      void fill();
    },
    end: () => stop.abort(),
  };
}
