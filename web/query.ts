// What a page shows, asked again with every change. The last answer stays while the next is on its way, so nothing flickers;
// an answer that is overtaken by a newer question is dropped.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, call, type Document } from "./api.ts";
import { version } from "./live.ts";

export type Answer<T> = { readonly data: T | null; readonly document: Document<T> | null; readonly error: ApiError | null };

/** The data of an operation that reads. `input` null: nothing is asked. */
export function useQuery<T>(name: string, input: object | null): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T>>({ data: null, document: null, error: null });
  const key = input === null ? null : JSON.stringify(input);
  const shown = useRef<string | null>(null);
  useEffect(() => {
    if (key === null) return;
    const stop = new AbortController();
    let busy = false;
    let again = false;
    const ask = async (): Promise<void> => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        const document = await call<T>(name, JSON.parse(key) as object, stop.signal);
        shown.current = key;
        setAnswer({ data: document.data, document, error: null });
      } catch (error) {
        if (stop.signal.aborted) return;
        setAnswer((before) => ({ ...(shown.current === key ? before : { data: null, document: null }), error: error as ApiError }));
      }
      busy = false;
      if (again && !stop.signal.aborted) {
        again = false;
        void ask();
      }
    };
    const end = version.subscribe(() => void ask());
    return () => {
      end();
      stop.abort();
    };
  }, [name, key]);
  return answer;
}
