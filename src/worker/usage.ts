// Reads "you may not work now" from the words of a tool, and from when on it may again. Pure. Invariant: only the known
// notices count, so that a task about limits is not mistaken for one; an unknown time is said to be unknown.

/** `resumeAt` in ms since 1970; null when the notice does not say. `message` is the notice itself. */
export type Limit = { readonly message: string; readonly resumeAt: number | null };

// Claude Code's notices over its versions: "Claude AI usage limit reached|1755615600", "Claude usage limit reached. Your
// limit will reset at 5pm (Europe/Warsaw).", "5-hour limit reached ∙ resets 3pm", "You've hit your session limit · resets
// Oct 9, 5pm (Asia/Tokyo)", "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC."
const NOTICES = [
  /claude(?: ai)? usage limit reached\b/i,
  /(?:5-hour|five-hour|session|daily|weekly|opus|sonnet|usage) limit reached\b/i,
  /you(?:['’]ve| have) (?:hit|reached) your (?:[\w-]+ ){0,3}limits?\b/i,
];
/** Longer texts are answers, not notices. */
const NOTICE_CHARS = 300;
const HOUR_MS = 3_600_000;

/**
 * The limit that `text` tells of, or null. With `alone` (the tool reported a success) the whole text must be the notice;
 * otherwise a line of it.
 */
export function readLimit(text: string, now: number, options: { alone?: boolean } = {}): Limit | null {
  const lines = options.alone ? [text.trim()] : text.split("\n").map((line) => line.trim());
  for (const line of lines) {
    const at = NOTICES.map((notice) => line.search(notice)).filter((index) => index >= 0);
    if (at.length === 0 || (options.alone && (Math.min(...at) > 0 || line.length > NOTICE_CHARS || line.includes("\n")))) continue;
    return { message: line, resumeAt: resumeTime(line, now) };
  }
  return null;
}

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const CLOCK_TIME = /\bresets?(?: at| on)?\s+(?:([a-z]{3})[a-z]*\.?\s+(\d{1,2})(?:,|\s+at)?\s+)?(\d{1,2})(?::(\d{2}))?\s*(am|pm)?\b(?:\s*\(([^)]+)\))?/i;

function resumeTime(line: string, now: number): number | null {
  const epoch = /\|\s*(\d{9,13})\b/.exec(line);
  if (epoch) return epoch[1]!.length > 11 ? Number(epoch[1]) : Number(epoch[1]) * 1000;
  const date = /\b(\d{4}-\d{2}-\d{2})(?: at |T| )(\d{2}:\d{2}) ?(?:UTC|Z)/.exec(line);
  if (date) return Date.parse(`${date[1]}T${date[2]}:00Z`);
  const match = CLOCK_TIME.exec(line);
  if (!match) return null;
  const [, monthName, day, hourText, minute, half, zone] = match;
  const month = monthName === undefined ? undefined : MONTHS.indexOf(monthName.toLowerCase());
  let hour = Number(hourText);
  if (half && hour > 12) return null;
  if (half) hour = (hour % 12) + (half.toLowerCase() === "pm" ? 12 : 0);
  if (month === -1 || hour > 23 || Number(minute ?? 0) > 59) return null;
  return nextTime({ month, day: day === undefined ? undefined : Number(day), hour, minute: Number(minute ?? 0) }, now, knownZone(zone));
}

type WallTime = { readonly month: number | undefined; readonly day: number | undefined; readonly hour: number; readonly minute: number };

/** The next such time in the zone (undefined: the local one). One that has just passed is taken as passed, not as tomorrow's. */
function nextTime(time: WallTime, now: number, zone: string | undefined): number {
  const today = wall(now, zone);
  for (let step = 0; ; step++) {
    const target =
      time.month === undefined
        ? fromWall(today.getUTCFullYear(), today.getUTCMonth(), today.getUTCDate() + step, time, zone)
        : fromWall(today.getUTCFullYear() + step, time.month, time.day!, time, zone);
    if (target > now) return target;
    if (now - target < HOUR_MS) return now + 60_000;
  }
}

/** The wall clock of a zone, as a Date whose UTC parts are the local ones. */
function wall(ms: number, zone: string | undefined): Date {
  const format = new Intl.DateTimeFormat("en-US", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" });
  const part = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]));
  return new Date(Date.UTC(part["year"]!, part["month"]! - 1, part["day"]!, part["hour"]!, part["minute"]!, part["second"]!));
}

function fromWall(year: number, month: number, day: number, { hour, minute }: WallTime, zone: string | undefined): number {
  const aim = Date.UTC(year, month, day, hour, minute);
  // The zone's offset at about that time; twice, because the first guess may lie on the other side of a clock change.
  let ms = aim;
  for (let i = 0; i < 2; i++) ms = aim - (wall(ms, zone).getTime() - Math.floor(ms / 1000) * 1000);
  return ms;
}

function knownZone(zone: string | undefined): string | undefined {
  try {
    return zone === undefined ? undefined : new Intl.DateTimeFormat("en-US", { timeZone: zone }).resolvedOptions().timeZone;
  } catch {
    return undefined;
  }
}
