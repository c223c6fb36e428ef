// What is wrong with the artifacts of a state: contents that are missing or are not what was put, and steps whose output is
// gone. Invariant: looking writes nothing, and holds one piece of a content in memory at a time.
import { createHash } from "node:crypto";
import { messageOf } from "../base/errors.ts";
import { finding, type Finding } from "../base/finding.ts";
import type { Rec, Store } from "../store/store.ts";
import { chunkBytes, type Artifact, type Chunk } from "./artifact.ts";
import type { Step } from "./records.ts";

const AGAIN = "Put the same content again, or restore the state from a backup.";

/** Whether all of an artifact is there; with `deep` every byte of it is read. */
export async function artifactFindings(store: Store, artifact: Artifact, deep: boolean): Promise<Finding[]> {
  const record = `artifact ${artifact.id}`;
  if (!artifact.complete) return [finding("leftover", "", "It was never put whole: a process was killed, or is at it.", { record, next: "pawl artifact gc removes it after a day." })];
  const there = await store.count("chunk", { equals: { artifact_id: artifact.id } });
  const damaged = (why: string) => [finding("artifact_damaged", "", why, { record, next: AGAIN })];
  if (there !== artifact.chunks) return damaged(`${there} of its ${artifact.chunks} pieces are there.`);
  if (!deep) return [];
  const hash = createHash("sha256");
  try {
    for (let seq = 0; seq < artifact.chunks; seq++) {
      const [chunk] = (await store.get("chunk", [[artifact.id, seq]])) as unknown as [Chunk | null];
      hash.update(chunkBytes(artifact, chunk));
    }
  } catch (error) {
    return damaged(messageOf(error));
  }
  return hash.digest("hex") === artifact.sha256 ? [] : damaged("Its content does not have its hash.");
}

/** A step whose output was kept as an artifact that is not there. */
export function lostOutput(record: Rec, artifacts: ReadonlySet<string>): Finding[] {
  const step = record as unknown as Step;
  if (!step.output_artifact || artifacts.has(step.output_artifact)) return [];
  return [finding("artifact_damaged", "", `Its output ${step.output_artifact} is not there: a replay cannot give it.`, { record: `step ${step.key} of task ${step.task_id}`, next: `${AGAIN} To run the step again: pawl reset ${step.task_id}.` })];
}
