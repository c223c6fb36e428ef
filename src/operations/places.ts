// A state as a whole, which need not be one that opens: looked after, copied, moved.
import { ERROR_CODES, PawlError } from "../base/errors.ts";
import type { Health } from "../core/doctor.ts";
import { editsOf } from "../core/edit.ts";
import type { Here } from "../state.ts";
import { noState } from "../state/place.ts";
import { placeOperation, type Operation } from "./operation.ts";

/** Errors: something is damaged. Warnings: it works, and should be looked at. */
function exitOf(data: unknown): number {
  const { healthy, findings } = data as Health;
  return healthy ? 0 : findings.some(({ severity }) => severity === "error") ? ERROR_CODES.corrupt.exit : ERROR_CODES.failed.exit;
}

/** Settles a hand edit that waits for a person: the one named, or the only one there is. */
async function settleEdit(here: Here, id: string, how: "accept" | "discard"): Promise<string[]> {
  const state = await here.open();
  try {
    const waiting = await editsOf(state.committer, { unsettled: true });
    if (id === "" && waiting.length !== 1) {
      throw new PawlError(waiting.length === 0 ? "not_found" : "usage", waiting.length === 0 ? "No hand edit waits to be settled." : `${waiting.length} hand edits wait: ${waiting.map((edit) => edit.id).join(", ")}.`, {
        next: waiting.length === 0 ? "See what there is: pawl status." : `Name one: pawl doctor --${how}-edit ${waiting[0]!.id}`,
      });
    }
    const edit = await state.edits[how](id === "" ? waiting[0]!.id : id);
    const kept = edit.kept === null ? "" : ` The edited file is ${edit.kept}.`;
    return [`Hand edit ${edit.id} is ${edit.status}: ${edit.changes} taken over, ${edit.refusals.length} refused.${kept}`];
  } finally {
    await state.close();
  }
}

export const placeOperations: readonly Operation[] = [
  placeOperation({
    name: "doctor", command: "doctor", summary: "Say what is wrong with the state, and with --repair mend it", effect: "write", output: "doctor", exit: exitOf,
    params: {
      deep: { type: "boolean", summary: "read all of it: every page of a database, every history" },
      repair: { type: "boolean", summary: "restore the last good state; a copy of everything is kept first" },
      "accept-edit": { type: "text", summary: "take over a hand edit as far as that is possible (default: the only one there is)", bare: true },
      "discard-edit": { type: "text", summary: "take nothing over of a hand edit; its file is kept", bare: true },
    },
    at: async (here, input) => {
      const place = here.place();
      if (!(await place.exists())) throw noState(place.location);
      const deep = { deep: input.deep === true };
      const done: string[] = [];
      if (input["accept-edit"] !== undefined) done.push(...(await settleEdit(here, input["accept-edit"], "accept")));
      if (input["discard-edit"] !== undefined) done.push(...(await settleEdit(here, input["discard-edit"], "discard")));
      const found = input.repair ? await place.repair(deep) : { done: [], ...(await place.doctor(deep)) };
      return { ...found, done: [...done, ...found.done] };
    },
  }),
  placeOperation({
    name: "backup", command: "backup", summary: "Copy the state as it is now, while others work on", effect: "write", output: "backup",
    params: { to: { type: "text", summary: "path of the copy (default: beside the state, with the time in its name)", arg: true, path: true } },
    at: async (here, input) => {
      const from = here.place();
      return { from: from.location, to: await from.backup(input.to) };
    },
  }),
  placeOperation({
    name: "copy", command: "copy", summary: "Move a state to another place or another kind of store", effect: "write", output: "copy",
    params: {
      from: { type: "text", summary: "the state to copy", required: true, arg: true, path: true },
      to: { type: "text", summary: "where to; there must be nothing yet", required: true, arg: true, path: true },
      "keep-open": { type: "boolean", summary: "leave the source usable: two states that go their own ways" },
      wait: { type: "duration", summary: "how long tasks in progress are waited for (default: 1m)", min: 0 },
      force: { type: "boolean", summary: "then take them from their owners" },
    },
    at: (here, input) => here.place(input.from).copyTo(input.to, { keepOpen: input["keep-open"] === true, force: input.force === true, ...(input.wait === undefined ? {} : { waitMs: input.wait }) }),
  }),
];
