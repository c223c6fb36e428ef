// Sealing a Postgres state and filling one with the records of another. Invariants: nobody is in the middle of a write when
// the seal is set; what is loaded keeps its ids, numbers and hashes, and ids go on above the highest ever given.
import { checkFields, checkLoad, checkSeal, kindOf, type Kinds } from "../check.ts";
import { countStatements, tally, type Tally } from "./counts.ts";
import type { Answer, Row, Statement } from "./driver.ts";
import { lists, statements } from "./records.ts";
import * as sql from "./sql.ts";
import { reserve, sealIn, type Writer } from "./transaction.ts";
import { columnsOf } from "../sql.ts";
import type { Counters, Model, Piece, Seal } from "../store.ts";

export type Moving = { readonly writer: Writer; readonly names: sql.Names; readonly model: Model; readonly kinds: Kinds; readonly location: string };

/** Sets or removes the seal if it is what the caller takes it for. */
export async function setSeal({ writer, names, location }: Moving, seal: Seal | null, was: Seal | null | undefined): Promise<void> {
  const notes = sql.table(names, "pawl");
  await writer.transact(async (tx) => {
    // Whoever writes has read this table; the lock waits for them, and keeps others away until the seal is there.
    const [, answer] = await tx.exclusively([{ text: `lock table ${notes} in access exclusive mode` }, sealText(names)]);
    checkSeal(sealOf(answer), was, location);
    const set = { text: `insert into ${notes} values ('seal', $1) on conflict (name) do update set value = excluded.value`, values: [JSON.stringify(seal)] };
    return { value: undefined, writes: [seal ? set : { text: `delete from ${notes} where name = 'seal'` }] };
  });
}

export const sealText = (names: sql.Names): Statement => ({ text: `select value from ${sql.table(names, "pawl")} where name = 'seal'` });

/** The seal in the answer to `sealText`. */
export function sealOf(answer: Answer | undefined): Seal | null {
  const value = answer?.rows[0]?.[0] ?? null;
  return value === null ? null : (JSON.parse(value) as Seal);
}

export const countersText = (names: sql.Names): Statement => ({ text: `select kind, next - 1 from ${sql.table(names, "pawl_ids")}` });

export function countersOf(model: Model, rows: readonly Row[]): Counters {
  const found = new Map(rows as unknown as [string, string][]);
  return Object.fromEntries(model.kinds.filter(({ assign }) => assign !== undefined).map(({ name }) => [name, Number(found.get(name) ?? 0)]));
}

export async function loadPieces(moving: Moving, pieces: AsyncIterable<Piece>, counters: Counters): Promise<void> {
  const { writer, names, model, kinds, location } = moving;
  const seal = await beginLoad(moving);
  const put = (writes: readonly Statement[]) => writer.transact(async (tx) => {
    await tx.run([]);
    checkSeal(sealIn(tx), seal, location);
    return { value: undefined, writes };
  });
  for await (const { kind: name, records } of pieces) {
    const kind = kindOf(kinds, name);
    const counts: Tally = new Map();
    for (const record of records) {
      checkFields(kind, record);
      tally(counts, kind, null, record);
    }
    await put([...statements(sql.insertText(names, kind, false), lists(kind, columnsOf(kind), records)), ...countStatements(names, counts, writer.slot)]);
  }
  await put(model.kinds.filter(({ assign }) => assign !== undefined).map((kind) => reserve(names, kind, 0, (counters[kind.name] ?? 0) + 1)));
}

/** The seal under which records may be loaded; throws when there are records. */
async function beginLoad({ writer, names, model, location }: Moving): Promise<Seal> {
  const some = model.kinds.map(({ name }) => `exists (select from ${sql.table(names, name)})`).join(" or ");
  return writer.transact(async (tx) => {
    const [answer] = await tx.run([{ text: `select ${some}` }]);
    const seal = sealIn(tx);
    checkLoad(seal, () => (answer!.rows[0]![0] === "t" ? 1 : 0), location);
    return { value: seal, writes: null };
  });
}
