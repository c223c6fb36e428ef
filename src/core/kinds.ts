// Every kind of record Pawl keeps. A noun declares its kind beside its type and its rules; here they are joined. Imported by
// who must know all of them (opening, copying, checking a state), never by a noun.
import type { Kind } from "../store/store.ts";
import { TASK_KINDS } from "./records.ts";

export const KINDS: readonly Kind[] = [...TASK_KINDS];
