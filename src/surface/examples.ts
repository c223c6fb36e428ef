// Examples for the help of every command, and the table of exit codes. A test holds every operation to at least one.
import { ERROR_CODES } from "../base/errors.ts";

export const EXAMPLES: { readonly [command: string]: readonly string[] } = {
  add: ["pawl add write a haiku about loops", "pawl add deploy v3 --key deploy-v3 --priority 1 --depends-on 4,7", "git log -1 --format=%B | pawl add -", "pawl add -- --verbose must not be the default"],
  edit: ["pawl edit 3 --priority 1 --deadline 2h", "pawl edit 3 --description - < task.md"],
  claim: ["pawl claim --json", "pawl claim --lease 10m --queue mail", "pawl claim --wait 30s --caller review-bot"],
  renew: ["pawl renew --token \"$TOKEN\""],
  ask: ["pawl ask which region should this go to?", "pawl ask 'May I drop the table?' --task 3 --token \"$TOKEN\""],
  prime: ["pawl prime", "pawl prime --hook"],
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
  approve: ["pawl approve d3", "pawl approve d3 --edit '{\"path\":\"/var/log/old\"}' --reason 'only the old ones'"],
  deny: ["pawl deny d3 --reason 'not on a Friday'"],
  answer: ["pawl answer d3 done --value '\"it was sent\"'", "pawl answer d4 use the blue one"],
  "schedule add": ["pawl schedule add report --cron '0 9 * * 1-5' --time-zone Europe/Berlin --missed one -- write the report", "pawl schedule add poll --every 15m --overlap skip -- look for new orders"],
  "schedule list": ["pawl schedule list"],
  "schedule show": ["pawl schedule show report"],
  "schedule pause": ["pawl schedule pause report"],
  "schedule resume": ["pawl schedule resume report"],
  "schedule run": ["pawl schedule run report"],
  "schedule rm": ["pawl schedule rm report"],
  "batch list": ["pawl batch list"],
  "batch show": ["pawl batch show batch-20251116-123456"],
  "agent list": ["pawl agent list"],
  "agent show": ["pawl agent show 3", "pawl agent show 3 --json | jq .data.state"],
  "agent patch": ["pawl agent patch 3 '{\"replace_plan\":[\"measure\",\"delete old logs\"]}' --revision 4", "pawl agent patch 3 - --reason 'the user wrote back' < patch.json"],
  "agent history": ["pawl agent history 3", "pawl agent history 3 --after 20"],
  "agent diff": ["pawl agent diff 3 --from 4", "pawl agent diff 3 --from 4 --to 7"],
  "agent at": ["pawl agent at 3 4"],
  "agent messages": ["pawl agent messages 3", "pawl agent messages 3 --all --json"],
  "agent budget": ["pawl agent budget 3", "pawl agent budget 3 --add max_llm_tokens=50000 --reason 'almost done'"],
  "event emit": ["pawl event emit payment-42 --value '{\"eur\":5}' --key stripe-evt-1", "pawl event emit deployed"],
  "event list": ["pawl event list", "pawl event list --name payment-42 --all --json"],
  "event take": ["pawl event take deployed --timeout 5m && ./smoke-test.sh"],
  "event drop": ["pawl event drop 7"],
  "breaker list": ["pawl breaker list"],
  "breaker show": ["pawl breaker show queue:mail"],
  "breaker set": ["pawl breaker set queue:mail failures=5,cooldown=1m", "pawl breaker set batch:batch-20251116-123456 iterations=100,time=2h,cost=5"],
  "breaker open": ["pawl breaker open queue:mail --reason 'the mail server moves tonight' --for 2h"],
  "breaker reset": ["pawl breaker reset queue:mail --reason 'the mail server is back'"],
  "breaker rm": ["pawl breaker rm queue:mail"],
  "artifact list": ["pawl artifact list"],
  "artifact show": ["pawl artifact show sha256-3fa9c1"],
  "artifact get": ["pawl artifact get sha256-3fa9c1 > build.log", "pawl artifact get sha256-3fa9c1 --lines 1-20", "pawl artifact get sha256-3fa9c1 --bytes 0-4095 --json"],
  "artifact put": ["pawl artifact put build.log --type tool_result.logs --summary 'the failing build'", "make 2>&1 | pawl artifact put -"],
  "artifact gc": ["pawl artifact gc --dry-run", "pawl artifact gc --older-than 30d"],
  "memory store": ["pawl memory store user editor helix", "pawl memory store bob employer 'Acme GmbH' --source crm --confidence 0.8", "pawl memory store user language German --scope user", "pawl memory store deploy limits --value-json '{\"replicas\":3}'"],
  "memory recall": ["pawl memory recall user", "pawl memory recall bob employer --min-confidence 0.5"],
  "memory search": ["pawl memory search disk full", "pawl memory search --limit 3 -- acme employer"],
  "memory list": ["pawl memory list", "pawl memory list --entity bob --all"],
  "memory verify": ["pawl memory verify m3", "pawl memory verify m3 --confidence 0.9"],
  "memory forget": ["pawl memory forget m3 --reason 'he left'", "pawl memory forget --entity bob --erase"],
  "memory conflicts": ["pawl memory conflicts"],
  "memory relate": ["pawl memory relate bob works_at acme", "pawl memory relate Bob same_as 'Robert Smith'"],
  "memory relations": ["pawl memory relations bob"],
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
    "The state is what --state or PAWL_STATE names, else the nearest .pawl/state.json upward; add, run, worker and import make one.",
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
