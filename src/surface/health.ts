// What `doctor`, `backup` and `copy` say to people: what was found, how bad it is, where, and the command that helps; where a
// copy is and how it is put back.
import { createColors } from "picocolors";
import type { CopyReport } from "../core/copy.ts";
import type { Health } from "../core/doctor.ts";
import { shellQuote } from "../core/words.ts";
import { escapeText } from "./escape.ts";
import type { Io } from "./io.ts";

type Page = { readonly io: Pick<Io, "color"> };

const MARKS = { error: "✗", warning: "!", note: "·" } as const;
const COLORS = { error: "red", warning: "yellow", note: "dim" } as const;

export function renderHealth(health: Health & { readonly done: readonly string[] }, { io }: Page): string {
  const colors = createColors(io.color);
  const lines = [`State: ${escapeText(health.state)}`, ...health.done.map((line) => `Done: ${escapeText(line)}`)];
  for (const { code, severity, place, line, offset, record, message, next } of health.findings) {
    const where = `${place}${line === undefined ? "" : `:${line}`}${offset === undefined ? "" : ` (byte ${offset})`}`;
    lines.push(`${colors[COLORS[severity]](`${MARKS[severity]} ${code}`)} ${escapeText(record ?? where)}`, `  ${escapeText(message)}`);
    if (next !== undefined) lines.push(`  next: ${escapeText(next)}`);
  }
  const read = Object.values(health.records).reduce((sum, n) => sum + n, 0);
  const errors = health.findings.filter(({ severity }) => severity === "error").length;
  const warnings = health.findings.filter(({ severity }) => severity === "warning").length;
  const verdict = health.healthy ? "Healthy" : [[errors, "error"], [warnings, "warning"]].filter(([n]) => n !== 0).map(([n, word]) => `${n} ${word}${n === 1 ? "" : "s"}`).join(", ");
  return `${[...lines, `${verdict}. Looked at ${read} records and ${health.chains} histories.`].join("\n")}\n`;
}

export function renderBackup({ from, to }: { readonly from: string; readonly to: string }): string {
  if (/^postgres(ql)?:/i.test(from)) return renderSnapshot(from, to);
  const json = !/\.(db|sqlite3?)$/i.test(to);
  const [target, source] = [shellQuote(to), shellQuote(from)];
  const restore = json
    ? `rm -rf ${source} ${shellQuote(`${from}.pawl`)} && cp -Rp ${target} ${source} && cp -Rp ${shellQuote(`${to}.pawl`)} ${shellQuote(`${from}.pawl`)}`
    : `rm -f ${source} ${shellQuote(`${from}-wal`)} ${shellQuote(`${from}-shm`)} && cp -p ${target} ${source}`;
  return `Backup of ${escapeText(from)}, read back and whole: ${escapeText(to)}${json ? ` and ${escapeText(to)}.pawl` : ""}\nTo look into it:  pawl --state ${escapeText(target)} status\nTo put it back, with no Pawl process running:\n  ${escapeText(restore)}\n`;
}

/** A backup of a state whose files are a server's. */
function renderSnapshot(from: string, to: string): string {
  return `Backup of ${escapeText(from)}, read back and whole: ${escapeText(to)}\nTo look into it:  pawl --state ${escapeText(shellQuote(to))} status\nTo put it back, into a schema where there is no state:\n  ${escapeText(`pawl copy ${shellQuote(to)} ${shellQuote(from)} --keep-open`)}\n`;
}

export function renderCopy(report: CopyReport): string {
  const records = Object.entries(report.records).map(([kind, n]) => `${n} ${kind}`).join(", ") || "no records";
  const released = report.released.length === 0 ? "" : `Taken from their owners: task ${report.released.join(", ")}\n`;
  const after = report.kept_open ? `${report.from} stays usable: these are two states now.` : `${report.from} says where it went, and takes nothing any more.`;
  return `Copied ${escapeText(report.from)} to ${escapeText(report.to)}: ${records}\nBoth have the hash ${report.hash.slice(0, 16)}.\n${released}${escapeText(after)}\nnext: pawl --state ${escapeText(shellQuote(report.to))} status\n`;
}
