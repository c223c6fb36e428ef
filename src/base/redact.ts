// Secrets taken out of what leaves this machine: values under telling names, and texts in the shapes that keys have. It is a
// net and no wall: what looks like nothing known passes. Invariant: it never throws, and what is no secret stays as it is.
import type { Json } from "./json.ts";

export const REDACTED = "[redacted]";

/** Names of fields whose text is a secret. A bare "token" is not among them: it is the handle of a claim, and a unit of models. */
const NAMES = /^(?:[\w.]*[_.-])?(?:password|passwd|passphrase|pwd|secret|secrets|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|(?:access|refresh|id|auth|session|bearer|bot)[_-]?token|authorization|(?:set[_-]?)?cookie|credentials?)$/i;

/** Shapes of secrets within a text; the first group, when there is one, stays. Each is linear: no two repeats of one class meet. */
const SHAPES: readonly RegExp[] = [
  /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]{0,20000}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?/g,
  /\b(?:sk|pk|rk)[-_](?:ant-|proj-|live_|test_)?[A-Za-z0-9_-]{20,200}/g,
  /\bgh[pousr]_[A-Za-z0-9]{30,255}/g,
  /\bgithub_pat_[A-Za-z0-9_]{30,255}/g,
  /\bglpat-[A-Za-z0-9_-]{20,100}/g,
  /\bxox[abeoprs]-[A-Za-z0-9-]{10,255}/g,
  /\bnpm_[A-Za-z0-9]{36}\b/g,
  /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g,
  /\bAIza[0-9A-Za-z_-]{35}/g,
  /\bhf_[A-Za-z0-9]{30,100}/g,
  /\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{8,2000}/g,
  /(\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s:@/]{0,255}:)[^\s@/]{1,255}(?=@)/gi,
  /(\b(?:bearer|basic)\s)[A-Za-z0-9._~+/=-]{16,4000}/gi,
  /(\b[A-Z0-9_]{0,60}(?:PASSWORD|PASSWD|SECRET|API_KEY|ACCESS_KEY|PRIVATE_KEY|AUTH_TOKEN|ACCESS_TOKEN|_TOKEN)[A-Z0-9_]{0,20}=)(?:"[^"\n]{1,500}"|'[^'\n]{1,500}'|[^\s"']{1,500})/g,
  /(\b(?:password|passwd|pwd)=)[^\s"'&;]{1,500}/gi,
  /((?:--|[?&])(?:password|secret|api[_-]?key|access[_-]?token|auth[_-]?token)[= ])[^\s&"']{1,500}/gi,
];

/** A text with what looks like a secret replaced. */
export function redactText(text: string): string {
  return SHAPES.reduce((left, shape) => left.replace(shape, (_match, kept: unknown) => `${typeof kept === "string" ? kept : ""}${REDACTED}`), text);
}

/** The same for every text in a value, and for whatever text stands under a telling name. */
export function redact(value: Json): Json {
  if (typeof value === "string") return redactText(value);
  if (Array.isArray(value)) return value.map(redact);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value as { readonly [key: string]: Json }).map(([key, item]) => [key, isTold(key, item) ? REDACTED : redact(item)]));
}

const isTold = (key: string, item: Json): boolean => (typeof item === "string" || typeof item === "number") && item !== "" && NAMES.test(key);
