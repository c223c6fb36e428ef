// Changes as they happen: one stream for the whole page. `version` counts up with each; whatever shows something asks again
// when it does. After a broken connection the stream goes on behind the last event that was seen.
import { signal } from "@preact/signals";
import { ApiError, openEvents } from "./api.ts";

export type Counts = { readonly tasks: { readonly [status: string]: number }; readonly decisions: number };

/** Counts up with each change. */
export const version = signal(0);
/** How much there is of everything; null before the first event. */
export const counts = signal<Counts | null>(null);
export const connected = signal(false);
/** The server refuses the token: another one is needed. */
export const refused = signal(false);

const AGAIN_MS = [500, 1_000, 2_000, 5_000];

/** Follows the stream for as long as the page is open. */
export function follow(): void {
  let lastId: string | null = null;
  let failures = 0;
  const round = async (): Promise<void> => {
    try {
      const stream = await openEvents(lastId, new AbortController().signal);
      connected.value = true;
      failures = 0;
      await eachEvent(stream, (event) => {
        lastId = event.id ?? lastId;
        if (event.data !== null) counts.value = JSON.parse(event.data) as Counts;
        version.value++;
      });
    } catch (error) {
      if (error instanceof ApiError && error.code === "token") {
        refused.value = true;
        connected.value = false;
        return;
      }
    }
    connected.value = false;
    setTimeout(() => void round(), AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]);
  };
  void round();
}

type Event = { readonly id: string | null; readonly data: string | null };

/** The events of a stream, as the format of server-sent events has them. Comments are none. */
async function eachEvent(stream: ReadableStream<Uint8Array<ArrayBuffer>>, visit: (event: Event) => void): Promise<void> {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop()!;
    for (const block of blocks) {
      const field = (name: string) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2) ?? null;
      if (field("event") !== null) visit({ id: field("id"), data: field("data") });
    }
  }
}
