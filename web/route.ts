// Which page the address names, and going to another without loading anew.
import { signal } from "@preact/signals";

export type Route = { readonly page: string; readonly id: string | null; readonly query: URLSearchParams };

const read = (): Route => {
  const [page = "", id] = location.pathname.split("/").filter((part) => part !== "").map(decodeURIComponent);
  return { page: page === "" ? "board" : page, id: id ?? null, query: new URLSearchParams(location.search) };
};

export const route = signal<Route>(read());

export function go(path: string, how: "push" | "replace" = "push"): void {
  history[how === "push" ? "pushState" : "replaceState"](null, "", path);
  route.value = read();
  if (how === "push") scrollTo(0, 0);
}

/** Links of this page are followed here; others, and those for a new tab, are the browser's. */
export function followLinks(): void {
  addEventListener("popstate", () => (route.value = read()));
  document.addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest?.("a[href]") as HTMLAnchorElement | null;
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.target !== "" || link.hash !== "") return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
