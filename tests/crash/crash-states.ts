// Every state a simulated disk can be left in by a power cut, after every prefix of its log: what was synced is there; of
// the last unsynced changes of names any subset (a name's own changes in their order); of a file's unsynced writes any
// prefix, its last write whole, torn or zeroed. Invariant: equal disks have equal keys, so that none is opened twice.
import { createHash } from "node:crypto";
import { type FileNode, type Image, type Mark, type Names, type Op, ROOT, type Truncate, type Write } from "./disk.ts";

/** What the world knows at the moment of the crash; `at` counts the operations before it. */
export type Known = { readonly asked: number; readonly acked: number; readonly probesAcked: number; readonly edit: "none" | "asked" | "kept"; readonly at: number };
export const NOTHING_KNOWN: Known = { asked: 0, acked: 0, probesAcked: 0, edit: "none", at: 0 };

export type Visit = (key: string, image: () => Image, known: Known) => void;
/**
 * `names`: changes of names, counted from the last, of which every subset is tried; older ones are taken as kept.
 * `most`: about so many states at one moment, evenly taken from all; all without it.
 * `from`: crashes before so many operations are left out.
 */
export type Bounds = { readonly names: number; readonly most?: number; readonly from?: number };

/** Small numbers for long strings, so that keys are short; shared by everything whose keys are compared. */
export class Interner {
  readonly #ids = new Map<string, number>();
  readonly #contents = new WeakMap<Buffer, number>();

  id(text: string): number {
    const found = this.#ids.get(text);
    if (found !== undefined) return found;
    this.#ids.set(text, this.#ids.size);
    return this.#ids.size - 1;
  }

  content(bytes: Buffer): number {
    const found = this.#contents.get(bytes);
    if (found !== undefined) return found;
    const id = this.id(`content ${bytes.length} ${createHash("sha1").update(bytes).digest("base64")}`);
    this.#contents.set(bytes, id);
    return id;
  }
}

type Data = Write | Truncate;
/** `lost`: it was unsynced when a flush failed, so no later flush makes it durable. */
type Pending = { readonly op: Data; readonly lost: boolean };
type PendingNames = { readonly op: Names; readonly synced: Set<number> };
type Tree = { readonly shape: number; readonly files: readonly number[]; readonly dirs: ReadonlyMap<number, ReadonlyMap<string, number>> };
type Choice = { readonly node: FileNode; readonly id: string };

const MODE = 0o600;
const NEW_FILE: FileNode = { bytes: Buffer.alloc(0), mtime: 0, mode: MODE };

/** Visits every state; returns how many there were, equal disks included. */
export function visitCrashStates(base: Image, log: readonly Op[], bounds: Bounds, interner: Interner, start: Known, visit: Visit): number {
  const survey = new Survey(base, bounds, interner);
  let known = start;
  const { from = 0 } = bounds;
  let states = from > 0 ? 0 : survey.visit(known, visit);
  for (const [i, op] of log.entries()) {
    known = op.op === "mark" ? { ...after(known, op.mark), at: i + 1 } : { ...known, at: i + 1 };
    if (op.op !== "mark") survey.take(op);
    if (i + 1 < from) continue;
    const found = survey.visit(known, visit);
    // A mark changes what must hold, not the disk.
    if (op.op !== "mark") states += found;
  }
  return states;
}

/** Visits the states at the end of the log only. */
export function visitLastStates(base: Image, log: readonly Op[], bounds: Bounds, interner: Interner, visit: Visit): number {
  const survey = new Survey(base, bounds, interner);
  for (const op of log) if (op.op !== "mark") survey.take(op);
  return survey.visit({ ...NOTHING_KNOWN, at: log.length }, visit);
}

function after(known: Known, mark: Mark): Known {
  return { ...known, ...mark };
}

class Survey {
  readonly #dirs = new Map<number, Map<string, number>>();
  readonly #files: Map<number, FileNode>;
  readonly #bounds: Bounds;
  readonly #interner: Interner;
  readonly #pending = new Map<number, Pending[]>();
  readonly #choices = new Map<number, readonly Choice[]>();
  #names: PendingNames[] = [];
  #trees: readonly Tree[] | null = null;

  constructor(base: Image, bounds: Bounds, interner: Interner) {
    for (const [inode, names] of base.dirs) this.#dirs.set(inode, new Map(names));
    this.#files = new Map(base.files);
    this.#bounds = bounds;
    this.#interner = interner;
  }

  take(op: Exclude<Op, { op: "mark" }>): void {
    if (op.op === "names") {
      if (op.makes !== undefined) this.#dirs.set(op.makes, new Map());
      this.#names.push({ op, synced: new Set() });
      this.#trees = null;
    } else if (op.op === "sync names") {
      this.#syncNames(op.dir);
    } else {
      this.#choices.delete(op.file);
      const pending = this.#pending.get(op.file) ?? [];
      if (op.op === "sync") this.#sync(op.file, pending);
      else this.#pending.set(op.file, op.op === "failed sync" ? pending.map(({ op }) => ({ op, lost: true })) : [...pending, { op, lost: false }]);
    }
  }

  /** Visits every state the disk can be left in now. */
  visit(known: Known, visit: Visit): number {
    this.#trees ??= this.#possibleTrees();
    const { most = Infinity } = this.#bounds;
    let states = 0;
    for (const tree of this.#trees.filter((_, i, { length }) => i % stride(length, most) === 0)) {
      const open = tree.files.filter((file) => this.#pending.has(file));
      const fixed = tree.files.filter((file) => !this.#pending.has(file)).map((file) => this.#content(file, this.#files.get(file) ?? NEW_FILE)).join();
      for (const choices of combinations(open.map((file) => this.#choicesOf(file)), Math.ceil(most / this.#trees.length))) {
        states++;
        visit(`${tree.shape}|${fixed}|${choices.map(({ id }) => id).join()}`, () => this.#image(tree, open, choices), known);
      }
    }
    return states;
  }

  #image(tree: Tree, open: readonly number[], choices: readonly Choice[]): Image {
    const chosen = new Map(open.map((file, i) => [file, choices[i]!.node]));
    return { dirs: tree.dirs, files: new Map(tree.files.map((file) => [file, chosen.get(file) ?? this.#files.get(file) ?? NEW_FILE])) };
  }

  #content(file: number, node: FileNode): string {
    return `${file}=${this.#interner.content(node.bytes)}@${node.mtime}`;
  }

  #sync(file: number, pending: readonly Pending[]): void {
    let node = this.#files.get(file) ?? NEW_FILE;
    const still: Pending[] = [];
    for (const { op, lost } of pending) {
      // What a failed flush dropped leaves a hole; it may have reached the disk all the same.
      const zeroed = lost && op.op === "write";
      if (zeroed) still.push({ op, lost });
      node = applied(node, zeroed ? { ...op, bytes: Buffer.alloc(op.bytes.length) } : op);
    }
    // A write over the hole, or a cut before it, ends the doubt.
    const doubt = still.filter(({ op }) => op.op === "write" && op.at + op.bytes.length <= node.bytes.length && isZero(node.bytes.subarray(op.at, op.at + op.bytes.length)));
    this.#files.set(file, node);
    if (doubt.length > 0) this.#pending.set(file, doubt);
    else this.#pending.delete(file);
  }

  #syncNames(dir: number): void {
    for (const pending of this.#names) if (pending.op.entries.some((entry) => entry.dir === dir)) pending.synced.add(dir);
    let last = this.#names.length - 1;
    const durable = new Set<PendingNames>();
    for (; last >= 0; last--) {
      const pending = this.#names[last]!;
      const whole = pending.op.entries.every((entry) => pending.synced.has(entry.dir));
      if (whole || [...durable].some((later) => shareName(pending.op, later.op))) durable.add(pending);
    }
    for (const pending of this.#names) if (durable.has(pending)) rename(this.#dirs, pending.op);
    this.#names = this.#names.filter((pending) => !durable.has(pending));
    this.#trees = null;
  }

  #possibleTrees(): Tree[] {
    const recent = this.#names.slice(-this.#bounds.names);
    const older = this.#names.slice(0, this.#names.length - recent.length);
    const needs = recent.map(({ op }, i) => recent.slice(0, i).reduce((mask, earlier, j) => (shareName(op, earlier.op) ? mask | (1 << j) : mask), 0));
    const trees: Tree[] = [];
    const seen = new Set<number>();
    for (let kept = 0; kept < 1 << recent.length; kept++) {
      if (needs.some((mask, i) => kept & (1 << i) && (kept & mask) !== mask)) continue;
      const tree = this.#treeOf([...older, ...recent.filter((_, i) => kept & (1 << i))].map(({ op }) => op));
      // Equal trees of different subsets are one disk, whatever the files hold.
      if (seen.has(tree.shape)) continue;
      seen.add(tree.shape);
      trees.push(tree);
    }
    return trees;
  }

  #treeOf(ops: readonly Names[]): Tree {
    const dirs = new Map<number, Map<string, number>>(this.#dirs);
    const touched = new Set(ops.flatMap((op) => op.entries.map(({ dir }) => dir)));
    for (const dir of touched) dirs.set(dir, new Map(dirs.get(dir)));
    for (const op of ops) rename(dirs, op);
    const files = new Set<number>();
    const reached = new Map<number, ReadonlyMap<string, number>>();
    const walk = (dir: number): string => {
      const names = dirs.get(dir)!;
      reached.set(dir, touched.has(dir) ? names : new Map(names));
      return [...names].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, inode]) => {
        if (dirs.has(inode)) return `${name}/${inode}{${walk(inode)}}`;
        files.add(inode);
        return `${name}:${inode}`;
      }).join();
    };
    const shape = this.#interner.id(`tree ${walk(ROOT)}`);
    return { shape, files: [...files].sort((a, b) => a - b), dirs: reached };
  }

  #choicesOf(file: number): readonly Choice[] {
    const found = this.#choices.get(file);
    if (found) return found;
    const stable = this.#files.get(file) ?? NEW_FILE;
    const pending = this.#pending.get(file)!;
    const nodes = [stable];
    let node = stable;
    for (const { op } of pending) {
      if (op.op === "write") for (const bytes of torn(op.bytes)) nodes.push(applied(node, { ...op, bytes }));
      node = applied(node, op);
      nodes.push(node);
    }
    // Blocks reach the disk in any order: the last write is there, those before it are holes.
    if (pending.length > 1) nodes.push(pending.reduce((sum, { op }, i) => applied(sum, op.op === "write" && i < pending.length - 1 ? { ...op, bytes: Buffer.alloc(op.bytes.length) } : op), stable));
    const choices = new Map(nodes.map((node) => [this.#content(file, node), node]));
    const result = [...choices].map(([id, node]) => ({ id, node }));
    this.#choices.set(file, result);
    return result;
  }
}

/** What may be of a write that was not synced: cut, zeroed, with zeroed or foreign sectors. */
function torn(bytes: Buffer): Buffer[] {
  const half = bytes.length >> 1;
  const mixed = (first: Buffer, second: Buffer) => Buffer.concat([first.subarray(0, half), second.subarray(half)]);
  const zeros = Buffer.alloc(bytes.length);
  const foreign = Buffer.from(bytes.map((byte) => byte ^ 0x55));
  return [bytes.subarray(0, 1), bytes.subarray(0, half), bytes.subarray(0, -1), zeros, mixed(bytes, zeros), mixed(zeros, bytes), mixed(bytes, foreign)].map((form) => Buffer.from(form));
}

function applied(node: FileNode, op: Data): FileNode {
  if (op.op === "truncate") return { ...node, bytes: Buffer.from(node.bytes.subarray(0, op.size)), mtime: op.mtime };
  const gap = Math.max(op.at - node.bytes.length, 0);
  const bytes = Buffer.concat([node.bytes.subarray(0, op.at), Buffer.alloc(gap), op.bytes, node.bytes.subarray(op.at + op.bytes.length)]);
  return { bytes, mtime: op.mtime, mode: MODE };
}

function rename(dirs: Map<number, Map<string, number>>, op: Names): void {
  for (const { dir, name, to } of op.entries) {
    if (to === null) dirs.get(dir)!.delete(name);
    else dirs.get(dir)!.set(name, to);
  }
}

const isZero = (bytes: Buffer): boolean => bytes.every((byte) => byte === 0);
const shareName = (a: Names, b: Names): boolean => a.entries.some((x) => b.entries.some((y) => x.dir === y.dir && x.name === y.name));

/** One of each list, in every combination; or about `most` of these, spread over all. */
function* combinations<T>(lists: readonly (readonly T[])[], most: number): Iterable<readonly T[]> {
  const total = lists.reduce((product, { length }) => product * length, 1);
  for (let i = 0; i < total; i += stride(total, most)) {
    let rest = i;
    yield lists.map((list) => {
      const item = list[rest % list.length]!;
      rest = Math.floor(rest / list.length);
      return item;
    });
  }
}

const stride = (total: number, most: number): number => Math.max(1, Math.ceil(total / most));
