// Every kind of record Pawl keeps. A noun declares its kind beside its type and its rules; here they are joined. Imported by
// who must know all of them (opening, copying, checking a state), never by a noun.
import type { Kind } from "../store/store.ts";
import { AGENT_KIND, ENTRY_KIND } from "./agent.ts";
import { ARTIFACT_KIND, CHUNK_KIND } from "./artifact.ts";
import { BUDGET_KIND, RESERVATION_KIND } from "./budget.ts";
import { MEMORY_KINDS } from "./memory.ts";
import { MESSAGE_KIND } from "./message.ts";
import { PATCH_KIND } from "./patch.ts";
import { BREAKER_KIND } from "./breaker.ts";
import { CHILD_KIND } from "./child.ts";
import { CHANNEL_KIND, EVENT_KIND } from "./event.ts";
import { TASK_KINDS } from "./records.ts";
import { SCHEDULE_KIND } from "./schedule.ts";
import { SLOT_KINDS } from "./slot.ts";

export const KINDS: readonly Kind[] = [...TASK_KINDS, AGENT_KIND, ENTRY_KIND, PATCH_KIND, MESSAGE_KIND, BUDGET_KIND, RESERVATION_KIND, BREAKER_KIND, CHILD_KIND, EVENT_KIND, CHANNEL_KIND, SCHEDULE_KIND, ...SLOT_KINDS, ARTIFACT_KIND, CHUNK_KIND, ...MEMORY_KINDS];
