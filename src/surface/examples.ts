// Examples for the help of every command, and the table of exit codes. A test holds every operation to at least one.
import { ERROR_CODES } from "../base/errors.ts";

export const EXAMPLES: { readonly [command: string]: readonly string[] } = {
  add: ["pawl add write a haiku about loops", "pawl add deploy v3 --key deploy-v3 --priority 1 --depends-on 4,7", "git log -1 --format=%B | pawl add -", "pawl add -- --verbose must not be the default"],
  edit: ["pawl edit 3 --priority 1 --deadline 2h", "pawl edit 3 --description - < task.md"],
  claim: ["pawl claim --json", "pawl claim --lease 10m --queue mail"],
  complete: ["pawl complete 3 --result 'all tests pass'", "npm test 2>&1 | pawl complete 3 --result -", "pawl complete 3 --result-json '{\"tag\":\"v3\"}' --token \"$TOKEN\""],
  fail: ["pawl fail 3 --reason 'the API is gone'", "pawl fail 3 --reason 'rate limited' --token \"$TOKEN\" --retry"],
  release: ["pawl release 3 --token \"$TOKEN\"", "pawl release 3 --force --reason 'its worker hangs'"],
  retry: ["pawl retry 3", "pawl retry 3 --fresh --deadline 1h"],
  reset: ["pawl reset 3", "pawl reset --all"],
  reopen: ["pawl reopen 3 --reason 'the haiku has six syllables too many'"],
  cancel: ["pawl cancel 3 --reason 'no longer wanted'"],
  rm: ["pawl rm 3"],
  list: ["pawl list", "pawl list --status failed", "pawl list --json | jq '.data[].description'"],
  show: ["pawl show 3", "pawl show deploy-v3 --output"],
  next: ["pawl next"],
  status: ["pawl status", "pawl status --json | jq .data.tasks.progress_percent"],
  history: ["pawl history 3"],
  why: ["pawl why 3"],
  inbox: ["pawl inbox"],
  approve: ["pawl approve d3"],
  deny: ["pawl deny d3 --reason 'not on a Friday'"],
  answer: ["pawl answer d3 done --value '\"it was sent\"'", "pawl answer d4 use the blue one"],
  "batch list": ["pawl batch list"],
  "batch show": ["pawl batch show batch-20251116-123456"],
  import: ["pawl import tasks.md", "pawl import tasks.txt --var env=staging --var region=eu", "generate-tasks | pawl import - --format jsonl"],
  doctor: ["pawl doctor", "pawl doctor --deep --json | jq '.data.findings[]'", "pawl doctor --repair", "pawl doctor --accept-edit"],
  backup: ["pawl backup", "pawl backup /mnt/usb/state.json"],
  copy: ["pawl copy state.json state.db", "pawl copy .pawl/state.json /srv/pawl/state.db --wait 10m", "pawl copy state.db try.db --keep-open"],
  export: ["pawl export > report.md", "pawl export --format csv --status failed"],
};

/** The help text behind a command. */
export function examplesOf(command: string): string {
  return `\nExamples:\n${(EXAMPLES[command] ?? []).map((example) => `  ${example}`).join("\n")}`;
}

/** Behind the help of `pawl` itself. */
export function epilogue(): string {
  const names = new Map<number, string[]>([[0, ["done"]]]);
  for (const [code, { exit }] of Object.entries(ERROR_CODES)) names.set(exit, [...(names.get(exit) ?? []), code]);
  const codes = [...names].sort(([a], [b]) => a - b).map(([exit, of]) => `  ${String(exit).padStart(2)}  ${of.join(", ")}`);
  return [
    "",
    "The state is what --state or PAWL_STATE names, else the nearest .pawl/state.json upward; add, run and import make one.",
    "",
    "Examples:",
    "  pawl add write a haiku about loops",
    "  pawl run tasks.txt --exec 'echo {description}'",
    "  pawl status",
    "",
    "Exit codes:",
    ...codes,
  ].join("\n");
}
