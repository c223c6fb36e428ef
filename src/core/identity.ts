// The identity of a state: a random id made once and kept in it, so that idempotency keys of two states never meet, not
// even after a copy of the folder was renamed.
import type { Random } from "../base/id.ts";
import { PawlError } from "../base/errors.ts";
import type { Committer } from "./committer.ts";

const NAME = "state_id";

/** The state's id, made now if this is the first time it is asked for. */
export async function stateIdOf(committer: Committer, random: Random): Promise<string> {
  const [known] = await committer.store.get("meta", [NAME]);
  if (known) return known["value"] as string;
  const value = random.hex(16);
  const result = await committer.commit({ guards: [{ kind: "meta", key: NAME, absent: true }], puts: [{ kind: "meta", record: { name: NAME, value } }] });
  if (result.ok) return value;
  if ("error" in result) throw result.error;
  if (!result.conflict.record) throw new PawlError("internal", "The state's id is neither there nor absent.");
  return result.conflict.record["value"] as string;
}
