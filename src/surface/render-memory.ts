// Artifacts and memories as text for people. How sure a memory is stands as it is now, not as it was when it was stored.
import { createColors } from "picocolors";
import type { Artifact } from "../core/artifact.ts";
import type { Collected } from "../core/artifacts.ts";
import type { FoundMemory, MemoryConflict, Stored } from "../core/memories.ts";
import type { Memory, Recalled, Relation } from "../core/memory.ts";
import { escapeText, oneLine as cutLine } from "./escape.ts";
import { textOf, type Page } from "./page.ts";
import { table } from "./table.ts";

const dim = ({ io }: Page) => createColors(io.color).dim;
const percent = (confidence: number): string => `${Math.round(confidence * 100)} %`;
const oneLine = (text: string): string => cutLine(text, Infinity);

/** Bytes as people say them. */
export function sizeOf(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1 << 20 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

/* ---------- artifacts ---------- */

export function artifactBlock(artifact: Artifact, page: Page): string {
  const lines = artifact.lines === null ? "" : `, ${artifact.lines} ${artifact.lines === 1 ? "line" : "lines"}`;
  return [
    `${artifact.id}  ${escapeText(artifact.type)}, ${sizeOf(artifact.bytes)}${lines}${artifact.complete ? "" : ", never put whole"}`,
    ...(artifact.summary === null ? [] : [`  ${oneLine(artifact.summary)}`]),
    dim(page)(`  put by ${oneLine(artifact.created_by)} ${artifact.created_at}, last put or named ${artifact.used_at}`),
    `  read it: pawl artifact get ${artifact.id}`,
    "",
  ].join("\n");
}

export function artifactList(artifacts: readonly Artifact[], page: Page): string {
  if (artifacts.length === 0) return "No artifacts.\n";
  return table(page.io, ["ID", "SIZE", "TYPE", "PUT", "SUMMARY"], artifacts.map(({ id, bytes, type, created_at, summary }) => [id, sizeOf(bytes), type, created_at, summary ?? ""]));
}

/** On a terminal: what it would act on is escaped, and bytes that are no text are counted only. */
export function artifactContent(part: { readonly content: string; readonly encoding: "utf-8" | "base64"; readonly from: number; readonly to: number }): string {
  if (part.encoding === "base64") return `${part.to - part.from} bytes that are not text; redirect them into a file, or use --json.\n`;
  const text = escapeText(part.content);
  return text === "" || text.endsWith("\n") ? text : `${text}\n`;
}

export function artifactsCollected({ dry_run, removed, bytes, kept }: Collected, page: Page): string {
  const what = `${removed.length} ${removed.length === 1 ? "artifact" : "artifacts"} (${sizeOf(bytes)})`;
  const rows = removed.length === 0 ? "" : table(page.io, ["ID", "SIZE", "TYPE", "PUT"], removed.map(({ id, bytes: size, type, created_at }) => [id, sizeOf(size), type, created_at]));
  return `${rows}${dry_run ? `Would remove ${what}` : `Removed ${what}`}; ${kept} ${dry_run ? "would stay" : "stay"}.\n`;
}

/* ---------- memory ---------- */

export function memoryBlock(memory: Recalled, page: Page): string {
  const state = memory.status === "current" ? `sure ${percent(memory.effective_confidence)}` : memory.superseded_by ? `superseded by ${memory.superseded_by}` : memory.status;
  const said = memory.erased ? "(erased)" : textOf(memory.value);
  return [
    `${memory.id}  ${oneLine(memory.entity)} · ${oneLine(memory.attribute)}: ${escapeText(said)}`,
    dim(page)(`  by ${oneLine(memory.source)}, ${state}, verified ${memory.verified_at}${memory.reason ? `; ${oneLine(memory.reason)}` : ""}`),
    ...(memory.context === null ? [] : [dim(page)(`  ${oneLine(textOf(memory.context))}`)]),
    ...(memory.conflicts.length === 0 ? [] : [`  contradicted by ${memory.conflicts.join(", ")}: pawl memory conflicts`]),
    "",
  ].join("\n");
}

export function memoryStored({ memory, supersedes, known }: Stored, page: Page): string {
  const told = [...(known ? ["known already, verified now"] : []), ...(supersedes.length > 0 ? [`supersedes ${supersedes.join(", ")}`] : [])];
  return `${memoryBlock(memory, page)}${told.length > 0 ? `  ${told.join("; ")}\n` : ""}`;
}

export function memoryList(memories: readonly (Recalled | FoundMemory)[], page: Page): string {
  if (memories.length === 0) return "Nothing is remembered that fits.\n";
  const status = (memory: Recalled) => (memory.status === "current" ? percent(memory.effective_confidence) : memory.status) + (memory.conflicts.length > 0 ? " !" : "");
  return table(page.io, ["ID", "ENTITY", "ATTRIBUTE", "SURE", "SOURCE", "VALUE"], memories.map((memory) => [memory.id, memory.entity, memory.attribute, status(memory), memory.source, memory.erased ? "(erased)" : textOf(memory.value)]));
}

export function memoriesForgotten(memories: readonly Memory[]): string {
  return memories.map(({ id, entity, attribute, erased }) => `${id}  ${oneLine(entity)} · ${oneLine(attribute)}: forgotten${erased ? " and erased" : ""}\n`).join("");
}

export function memoryConflictList(conflicts: readonly MemoryConflict[], page: Page): string {
  if (conflicts.length === 0) return "No conflicts.\n";
  const blocks = conflicts.map(({ memories }) => memories.map((memory) => memoryBlock({ ...memory, conflicts: [] }, page)).join(""));
  return `${blocks.join("\n")}\nSettle one: pawl memory forget ID, or store the right value with --supersede.\n`;
}

export function relationLine({ from_entity, type, to_entity, source, status }: Relation): string {
  return `${oneLine(from_entity)} ${oneLine(type)} ${oneLine(to_entity)} (by ${oneLine(source)})${status === "forgotten" ? ": taken back" : ""}\n`;
}

export function relationList(relations: readonly Relation[], page: Page): string {
  if (relations.length === 0) return "No relations.\n";
  return table(page.io, ["FROM", "RELATION", "TO", "SOURCE"], relations.map(({ from_entity, type, to_entity, source }) => [from_entity, type, to_entity, source]));
}
