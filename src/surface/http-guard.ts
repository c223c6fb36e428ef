// Who may speak to a local server: requests that name it as it is known, from no foreign page, with its token, not too many
// and not too large. Pure, so that every rule is a table of cases. A page of another origin can reach a local port; that is
// why a name is checked (DNS rebinding) and why the token never travels in a cookie.
import { isIP } from "node:net";
import type { Clock } from "../base/clock.ts";
import { LIMITS } from "../base/limits.ts";
import { sameSecret } from "./http-token.ts";

/** What is said to a request that is turned away. */
export type Refusal = { readonly status: 401 | 403 | 404 | 405 | 413 | 415 | 429; readonly message: string; readonly next: string };

/** By which names a server is reached. */
export type Names = { readonly port: number; readonly hosts: readonly string[]; /** Bound beyond the loopback: any address is a name of it. */ readonly open: boolean };

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

export const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);

/** "name:port" or "[v6]:port" in its parts; null when it is neither. */
function hostOf(text: string): { readonly name: string; readonly port: number | null } | null {
  const match = /^(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::([0-9]{1,5}))?$/.exec(text);
  return match ? { name: match[1]!.toLowerCase(), port: match[2] === undefined ? null : Number(match[2]) } : null;
}

function isOurs(names: Names, text: string): boolean {
  const host = hostOf(text);
  if (host === null || (host.port ?? 80) !== names.port) return false;
  if (LOOPBACK.includes(host.name) || names.hosts.includes(host.name)) return true;
  // An address cannot be rebound: no name of an attacker stands before it.
  return names.open && isIP(host.name.replace(/^\[(.*)\]$/, "$1")) !== 0;
}

/** Refuses a request that does not name this server, or that a page of another origin sends. */
export function checkSender(names: Names, headers: Pick<Headers, "get">): Refusal | null {
  const [host, origin, site] = ["host", "origin", "sec-fetch-site"].map((name) => headers.get(name));
  if (!host || !isOurs(names, host)) return { status: 403, message: "The request names a host that is not this server.", next: "Use the address that was printed at the start; another name needs --allow-host." };
  if (origin !== null && origin !== undefined && !isOurOrigin(names, origin)) return { status: 403, message: "The request comes from a page of another origin.", next: "Open the dashboard at the address that was printed at the start." };
  if (site === "cross-site" || site === "same-site") return { status: 403, message: "The request comes from another site.", next: "Open the dashboard at the address that was printed at the start." };
  return null;
}

function isOurOrigin(names: Names, origin: string): boolean {
  return origin.startsWith("http://") && isOurs(names, origin.slice("http://".length));
}

/** Refuses a request without the token, as `Authorization: Bearer TOKEN`. */
export function checkToken(token: string, authorization: string | null | undefined): Refusal | null {
  const given = /^Bearer ([!-~]{1,512})$/i.exec(authorization ?? "")?.[1];
  if (given !== undefined && sameSecret(given, token)) return null;
  return { status: 401, message: given === undefined ? "The request has no token." : "The token is not the one of this server.", next: "Send `Authorization: Bearer TOKEN`; the server printed at its start where the token is." };
}

/** Refuses a body that is no JSON or says that it is too large. */
export function checkBody(headers: Pick<Headers, "get">): Refusal | null {
  const [type, length] = [headers.get("content-type"), headers.get("content-length")];
  if (!/^application\/json(?:\s*;\s*charset="?utf-8"?)?$/i.test(type ?? "")) return { status: 415, message: "The body is not declared as JSON.", next: "Send Content-Type: application/json." };
  if (length !== null && length !== undefined && !(Number(length) <= LIMITS.requestBytes)) return tooLarge();
  return null;
}

export const tooLarge = (): Refusal => ({ status: 413, message: `The body is larger than ${LIMITS.requestBytes} bytes.`, next: "Send less, or use the command line for large values." });

/** Counts what comes: false once more comes than is answered. Requests without a token have a count of their own, so that guessing does not lock anybody out. */
export function makeGauge(clock: Clock, perSecond: number, burst: number): () => boolean {
  let left = burst;
  let at = clock.monotonic();
  return () => {
    const now = clock.monotonic();
    left = Math.min(burst, left + ((now - at) / 1000) * perSecond);
    at = now;
    if (left < 1) return false;
    left -= 1;
    return true;
  };
}

export const tooMany = (): Refusal => ({ status: 429, message: "Too many requests.", next: "Wait a second and try again; use GET /api/events instead of polling." });

/** On every answer: the page loads nothing from elsewhere, is in no frame, and nothing guesses types or keeps answers. */
export const SECURITY_HEADERS: { readonly [name: string]: string } = {
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
};
