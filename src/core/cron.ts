// The instants of a cron expression in a time zone, as croner computes them. Loaded on use: a command that meets no schedule
// does not pay for it. Days on which the clocks change: a time of day that is left out comes at the end of the gap, one that
// comes twice counts once, and an expression that names every hour goes on every hour.
import { Cron } from "croner";
import { messageOf, PawlError } from "../base/errors.ts";
import type { Instants } from "./schedule.ts";

/** Throws `usage` when expression or zone is not one, or when it never comes. */
export function cronInstants(expression: string, timeZone: string): Instants {
  if (!isZone(timeZone)) throw new PawlError("usage", `"${timeZone}" is no time zone.`, { next: "Write one such as Europe/Berlin, or UTC." });
  let cron: Cron;
  try {
    // Five fields, six with seconds, or a nickname; a date, which croner takes as well, comes once and is a task with a delay.
    if (!/^(@\w+|\S+(\s+\S+){4,5})$/.test(expression.trim())) throw new Error("it takes five fields: minute, hour, day, month, weekday");
    cron = new Cron(expression, { timezone: timeZone, paused: true });
    cron.nextRun(new Date(0));
  } catch (error) {
    throw new PawlError("usage", `"${expression}" in ${timeZone} is not a time to go by: ${messageOf(error)}.`, { next: 'As in: --cron "0 9 * * 1-5" --time-zone Europe/Berlin.', cause: error });
  }
  return {
    after: (ms) => cron.nextRun(new Date(ms))?.getTime() ?? null,
    since: (from, to, limit) => cron.previousRuns(limit, new Date(to + 1)).map((at) => at.getTime()).filter((at) => at >= from && at <= to).reverse(),
  };
}

function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
