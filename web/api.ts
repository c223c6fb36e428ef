// The way to the operations: POST /api/NAME with the token. The token comes behind the # of the first address, is kept for
// this tab only and taken out of the address, so that it is neither bookmarked nor sent on.

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: string;
  /** What to do about it. */
  readonly next: string | null;

  constructor(code: string, message: string, next: string | null) {
    super(message);
    this.code = code;
    this.next = next;
  }
}

const KEY = "pawl-token";

/** Takes the token out of the address, if there is one. */
export function takeToken(): void {
  const given = /^#token=([0-9a-f]{64})$/.exec(location.hash)?.[1];
  if (given === undefined) return;
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname + location.search);
}

export const hasToken = (): boolean => sessionStorage.getItem(KEY) !== null;

export function keepToken(token: string): void {
  sessionStorage.setItem(KEY, token.trim());
}

const authorized = (): { readonly authorization: string } => ({ authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` });

/** What an operation gives: its data, and what there is to say beside a list. */
export type Document<T> = { readonly kind: string; readonly data: T; readonly broken_at?: number | null };

async function answerOf<T>(response: Response): Promise<Document<T>> {
  const document = (await response.json().catch(() => null)) as Document<T> | null;
  if (response.ok && document) return document;
  const error = document?.data as { code?: string; message?: string; next?: string } | undefined;
  // A token of an earlier file: ask for the new one instead of failing at everything.
  if (response.status === 401) sessionStorage.removeItem(KEY);
  throw new ApiError(response.status === 401 ? "token" : (error?.code ?? "storage"), error?.message ?? `The server answered ${response.status}.`, error?.next ?? null);
}

/** Runs an operation; throws `ApiError`. */
export async function call<T>(name: string, input: object = {}, signal?: AbortSignal): Promise<Document<T>> {
  let response: Response;
  try {
    response = await fetch(`/api/${name}`, { method: "POST", headers: { ...authorized(), "content-type": "application/json" }, body: JSON.stringify(input), ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("offline", "The server is not there.", "Start it again: pawl ui");
  }
  return answerOf<T>(response);
}

/** The stream of changes from behind the event `lastId`. */
export async function openEvents(lastId: string | null, signal: AbortSignal): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const response = await fetch("/api/events", { headers: { ...authorized(), ...(lastId === null ? {} : { "last-event-id": lastId }) }, signal });
  if (!response.ok || !response.body) await answerOf(response);
  return response.body!;
}
