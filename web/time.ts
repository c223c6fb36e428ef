// Times and durations for people.

/** `1h 4m`, `12.3 s`, `48 ms`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes}m ${Math.floor((ms % 60_000) / 1_000)}s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours}h ${minutes % 60}m` : `${Math.floor(hours / 24)}d ${hours % 24}h`;
}

/** How long ago, or until when. */
export function ago(at: string, now = Date.now()): string {
  const ms = now - Date.parse(at);
  return ms >= 0 ? (ms < 1_500 ? "just now" : `${duration(ms)} ago`) : `in ${duration(-ms)}`;
}

export const local = (at: string): string => new Date(at).toLocaleString();
