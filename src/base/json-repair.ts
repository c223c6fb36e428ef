// Makes JSON of text that is almost JSON. Invariant: only comments and trailing commas outside of strings are taken away,
// each replaced by blanks, so that every other character keeps its line and column; what was taken away is counted.
import { textOf } from "./json-text.ts";

/** The repaired text, and what was done to it, such as "2 comments removed". What it is then is for the strict reader to say. */
export type Repair = { readonly text: string; readonly repairs: readonly string[] };

/** Strings, comments, and commas before a closing bracket; whichever begins first is what stands there. */
const TOKEN = /"(?:[^"\\]|\\[^])*"|\/\/[^\r\n]*|\/\*[^]*?\*\/|,(?=(?:\s|\/\/[^\r\n]*|\/\*[^]*?\*\/)*[}\]])/g;

/** Throws `corrupt` when the bytes are no text at all; `name` stands before the place. */
export function repairJson(bytes: Uint8Array, name: string): Repair {
  const bom = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  let comments = 0;
  let commas = 0;
  const text = textOf(bytes, name).replace(TOKEN, (token) => {
    if (token.startsWith('"')) return token;
    if (token === ",") commas++;
    else comments++;
    return token.replaceAll(/[^\r\n]/g, " ");
  });
  const counted = (n: number, what: string) => (n === 0 ? [] : [`${n} ${what}${n === 1 ? "" : "s"} removed`]);
  return { text, repairs: [...counted(comments, "comment"), ...counted(commas, "trailing comma"), ...(bom ? ["the byte order mark removed"] : [])] };
}
