// Damage that no crash makes: files of a closed state cut at every byte, each bit of them flipped. Invariant checked: it is
// noticed or it does not matter; never are there fewer acknowledged changes or other ones without a word, and what was
// refused is left as it is.
import { messageOf, PawlError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/id.ts";
import { openJson } from "../../src/store/json/json.ts";
import { type Image, SimulatedDisk } from "./disk.ts";
import { contents, FILE, JOURNEY, model, skippingClock, soleTurn, type Step, travel } from "./disk-workload.ts";

/** A closed state: its disk, and what it holds. */
export type Whole = { readonly image: Image; readonly dump: string; readonly checkpointBytes: number };
export type DamageReport = { readonly tried: number; readonly harmless: number; readonly refused: number; readonly violations: readonly string[] };

const NO_CHECKPOINT = 1 << 30;

/** Twenty commits with two views among them, in one segment; with `checkpointBytes`, over several and a checkpoint. */
export async function wholeState(checkpointBytes = NO_CHECKPOINT): Promise<Whole> {
  const commits = JOURNEY.filter((step) => !("edit" in step));
  const more: Step[] = Array.from({ length: 9 }, (_, i) => ({ commit: [{ puts: [{ kind: "item", record: { title: `m${i}` } }] }] }));
  let disk: SimulatedDisk | undefined;
  const { dumps } = await travel([...commits, ...more], { checkpointBytes, wrap: (made) => (disk = made).fs });
  return { image: disk!.image(), dump: dumps.at(-1)!, checkpointBytes };
}

export const filesOf = (whole: Whole): string[] => [...new SimulatedDisk(whole.image, () => 0).paths().keys()];

export const bytesOf = (whole: Whole, path: string): Buffer => new SimulatedDisk(whole.image, () => 0).peek(path)!;

/** The same disk with other bytes in one file. */
function withBytes(whole: Whole, path: string, bytes: Buffer): Image {
  const inode = new SimulatedDisk(whole.image, () => 0).fs.lstat(path)!.ino;
  return { dirs: whole.image.dirs, files: new Map([...whole.image.files, [inode, { ...whole.image.files.get(inode)!, bytes }]]) };
}

/** Opens the state with these bytes in one of its files; says what became of it, or what is wrong about that. */
async function outcome(whole: Whole, path: string, bytes: Buffer): Promise<"harmless" | "refused" | { readonly violation: string }> {
  const clock = skippingClock(Date.UTC(2026, 0, 4));
  const disk = new SimulatedDisk(withBytes(whole, path, bytes), clock.now);
  const before = disk.paths();
  try {
    const store = await openJson(FILE, model, { clock, random: seededRandom(9), fs: disk.fs, turn: soleTurn, checkpointBytes: whole.checkpointBytes, notice: () => undefined });
    const { dump } = await contents(store);
    await store.close();
    return dump === whole.dump ? "harmless" : { violation: `it opens with other records: ${dump}` };
  } catch (error) {
    if (!(error instanceof PawlError) || error.code === "internal") return { violation: `it throws ${messageOf(error)}` };
    const touched = [...before].filter(([name, old]) => !disk.peek(name)?.equals(old)).map(([name]) => name);
    return touched.length === 0 ? "refused" : { violation: `it is refused (${error.message}), and ${touched.join(", ")} changed` };
  }
}

/** Damages a file in these ways, each time the whole one; `name` says how. */
export async function sweepDamage(whole: Whole, path: string, ways: Iterable<{ readonly name: string; readonly bytes: Buffer }>): Promise<DamageReport> {
  const report = { tried: 0, harmless: 0, refused: 0 };
  const violations: string[] = [];
  for (const { name, bytes } of ways) {
    const found = await outcome(whole, path, bytes);
    report.tried++;
    if (typeof found === "string") report[found]++;
    else if (violations.push(`${path} ${name}: ${found.violation}`) >= 20) break;
  }
  return { ...report, violations };
}

/** The file cut at every (or every so manieth) byte. */
export function* cuts(bytes: Buffer, every = 1): Iterable<{ name: string; bytes: Buffer }> {
  for (let at = 0; at < bytes.length; at += every) yield { name: `cut at byte ${at}`, bytes: Buffer.from(bytes.subarray(0, at)) };
}

/** The file with one bit flipped, for every (or every so manieth) bit. */
export function* flips(bytes: Buffer, every = 1): Iterable<{ name: string; bytes: Buffer }> {
  for (let bit = 0; bit < bytes.length * 8; bit += every) {
    const flipped = Buffer.from(bytes);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    yield { name: `with bit ${bit & 7} of byte ${bit >> 3} flipped`, bytes: flipped };
  }
}
