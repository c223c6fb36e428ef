// Full-text search over memories: what a word is and how much it weighs, in pure functions, so that a search means the same
// on every store. A memory's words are records of their own; a search reads a bounded number of them for each word.
// Invariant: nothing here depends on the machine's language, its library of words, or the order in which memories came.
import type { Json } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";

/** Scripts that are written without spaces: their words are taken to be any two neighbours. */
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const RUN = /[\p{L}\p{N}\p{M}]+/gu;
const WORD_CHARS = 64;

/** The words of a text in their order: lower case, without accents. No stemming: "run" does not find "running". */
export function tokens(text: string): string[] {
  const plain = text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").normalize("NFKC").toLowerCase();
  return (plain.match(RUN) ?? []).flatMap((run) => (UNSPACED.test(run) ? pairs(run) : [run.slice(0, WORD_CHARS)])).map((word) => word.toWellFormed());
}

/** A run that mixes scripts is cut where they change; what is unspaced becomes pairs of neighbours. */
function pairs(run: string): string[] {
  const words: string[] = [];
  let spaced = "";
  let chars: string[] = [];
  const flush = () => {
    if (spaced !== "") words.push(spaced.slice(0, WORD_CHARS));
    if (chars.length === 1) words.push(chars[0]!);
    for (let i = 0; i + 1 < chars.length; i++) words.push(chars[i]! + chars[i + 1]!);
    spaced = "";
    chars = [];
  };
  for (const char of run) {
    const unspaced = UNSPACED.test(char);
    if (unspaced ? spaced !== "" : chars.length > 0) flush();
    if (unspaced) chars.push(char);
    else spaced += char;
  }
  flush();
  return words;
}

/** Every text in a JSON value, keys of objects included. */
function textsOf(value: Json): string[] {
  if (value === null) return [];
  if (Array.isArray(value)) return value.flatMap(textsOf);
  if (typeof value === "object") return Object.entries(value).flatMap(([key, item]) => [key, ...textsOf(item as Json)]);
  return [String(value)];
}

/** How a word that comes often, or in a short text, weighs more: BM25 with fixed parameters, so that a weight can be stored. */
const K1 = 1.2;
const B = 0.75;
/** The length of a usual memory, in words. */
const USUAL = 16;
/** Entity and attribute say what a memory is about: their words count this often. */
const NAMES = 3;

/** The different words of a memory with their weights, in thousandths. */
export function wordsOf({ entity, attribute, value, context }: { readonly entity: string; readonly attribute: string; readonly value: Json; readonly context: Json }): { word: string; rank: number }[] {
  const counts = new Map<string, number>();
  let length = 0;
  const count = (text: string, times: number) => {
    for (const word of tokens(text)) {
      length++;
      if (counts.has(word) || counts.size < LIMITS.memoryWords) counts.set(word, (counts.get(word) ?? 0) + times);
    }
  };
  for (const name of [entity, attribute]) count(name, NAMES);
  for (const text of [...textsOf(value), ...textsOf(context)]) count(text, 1);
  const norm = K1 * (1 - B + (B * length) / USUAL);
  return [...counts].map(([word, n]) => ({ word, rank: Math.round((1000 * n * (K1 + 1)) / (n + norm)) }));
}

/** The different words of a search that count. */
export function queryWords(query: string): string[] {
  return [...new Set(tokens(query))].slice(0, LIMITS.searchWords);
}

/** What is read of one word: the memories it weighs most in, and in how many of all it comes. */
export type Found = { readonly word: string; readonly postings: readonly { readonly memory_id: string; readonly rank: number }[]; readonly memories: number };

/** How rare a word is. */
const rarity = (memories: number, total: number): number => Math.log(1 + (Math.max(total, memories) - memories + 0.5) / (memories + 0.5));

/** The scores of memories, best first; equal ones newest first. */
export function score(found: readonly Found[], total: number): { readonly id: string; readonly score: number }[] {
  const scores = new Map<string, number>();
  for (const { postings, memories } of found) {
    const weight = rarity(memories, total);
    for (const { memory_id, rank } of postings) scores.set(memory_id, (scores.get(memory_id) ?? 0) + (weight * rank) / 1000);
  }
  // Rounded, so that the order in which words are summed cannot decide.
  const rounded = [...scores].map(([id, sum]) => ({ id, score: Math.round(sum * 1e6) / 1e6 }));
  return rounded.sort((a, b) => b.score - a.score || numberOf(b.id) - numberOf(a.id));
}

const numberOf = (id: string): number => Number(id.slice(1));
