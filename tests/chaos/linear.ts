// Whether what several workers saw of one task can have happened in one order: a search after Wing and Gong for an order
// that respects who was answered before whom and that a register with a fence allows. Only what is impossible counts as a
// violation: an answer that never came may have been written or not, and a fence may be raised by sweeps nobody recorded.

/** `from` and `to` (ms, one clock for all processes): between them it took effect. `to` is Infinity when no answer came. */
type Span = { readonly from: number; readonly to: number };

export type Op = Span &
  (
    | { readonly op: "claim"; readonly fence: number }
    /** A step recorded by the owner. */
    | { readonly op: "write"; readonly fence: number; readonly name: string; readonly value: string }
    /** A step whose recorded output came back instead of running. */
    | { readonly op: "replay"; readonly name: string; readonly value: string }
    | { readonly op: "complete"; readonly fence: number; readonly value: string }
    /** The store said that the task is no longer this fence's. */
    | { readonly op: "refused"; readonly fence: number }
    /** Everything that is stored, read when all had ended; `value` is null unless the task is completed. */
    | { readonly op: "final"; readonly value: string | null; readonly steps: { readonly [name: string]: string } }
  );

type Register = { readonly fence: number; readonly owned: boolean; readonly value: string | null; readonly steps: { readonly [name: string]: string } };

/** An order in which all of it can have happened, as indexes into `ops`; null when there is none. */
export function linearize(ops: readonly Op[]): number[] | null {
  const order: number[] = [];
  const done = new Set<number>();
  const dead = new Set<string>();
  const search = (register: Register): boolean => {
    const open = ops.flatMap((op, i) => (done.has(i) ? [] : [{ op, i }]));
    if (open.every(({ op }) => op.to === Infinity)) return true;
    const here = `${[...done].sort((a, b) => a - b).join()} ${JSON.stringify(register)}`;
    if (dead.has(here)) return false;
    // Whoever was answered first must come before whatever began after that.
    const first = Math.min(...open.map(({ op }) => op.to));
    for (const { op, i } of open.filter(({ op }) => op.from <= first).sort((a, b) => a.op.to - b.op.to)) {
      const next = after(register, op);
      if (next === null || (op.op === "claim" && open.some((other) => owed(other.op, op.fence)))) continue;
      done.add(i);
      order.push(i);
      if (search(next)) return true;
      done.delete(i);
      order.pop();
    }
    dead.add(here);
    return false;
  };
  return search({ fence: 0, owned: false, value: null, steps: {} }) ? order : null;
}

/** What was answered under an earlier fence can no longer be put anywhere once a later one is claimed. */
const owed = (op: Op, fence: number): boolean => op.to !== Infinity && (op.op === "write" || op.op === "complete" || op.op === "claim") && op.fence < fence;

/** The register after an operation; null when it does not allow it. */
function after(register: Register, op: Op): Register | null {
  const { fence, owned, value, steps } = register;
  switch (op.op) {
    case "claim":
      return value === null && op.fence > fence ? { ...register, fence: op.fence, owned: true } : null;
    case "write":
      return owned && op.fence === fence && steps[op.name] === undefined ? { ...register, steps: sorted({ ...steps, [op.name]: op.value }) } : null;
    case "replay":
      return steps[op.name] === op.value ? register : null;
    case "complete":
      return owned && op.fence === fence && value === null ? { ...register, owned: false, value: op.value } : null;
    case "refused":
      return op.fence === fence ? { ...register, owned: false } : register;
    case "final":
      return value === op.value && JSON.stringify(steps) === JSON.stringify(sorted(op.steps)) ? register : null;
  }
}

const sorted = (steps: { readonly [name: string]: string }) => Object.fromEntries(Object.entries(steps).sort(([a], [b]) => (a < b ? -1 : 1)));

/** The operations as a table for people, in the order of their answers. */
export function drawn(ops: readonly Op[]): string {
  return [...ops].sort((a, b) => a.to - b.to).map(({ from, to, ...rest }) => `  ${from.toFixed(1)}–${to === Infinity ? "?" : to.toFixed(1)} ${JSON.stringify(rest)}`).join("\n");
}
