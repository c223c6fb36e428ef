// `pawl completion SHELL`: prints the script that completes commands, flags and statuses in bash, zsh and fish.
import type { Command } from "commander";
import { PawlError } from "../base/errors.ts";
import type { Io } from "./io.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** The words after which the shell asks for completions: `pawl complete -- …` is taken by a verb, so it has its own name. */
export function addCompletionCommand(program: Command, io: Io): void {
  program
    .command("completion <shell>")
    .description("Print a completion script for bash, zsh or fish")
    .addHelpText("after", "\nExamples:\n  eval \"$(pawl completion bash)\"\n  pawl completion fish > ~/.config/fish/completions/pawl.fish")
    .action((shell: string) => {
      if (!(SHELLS as readonly string[]).includes(shell)) throw new PawlError("usage", `There is no completion for ${shell}.`, { next: `Use one of: ${SHELLS.join(", ")}.` });
      io.out(scriptOf(shell as (typeof SHELLS)[number], program));
    });
}

type Entry = { readonly path: string; readonly words: readonly string[] };

function entriesOf(program: Command): Entry[] {
  const flags = (command: Command) => [...command.options, ...program.options].flatMap((option) => (option.long ? [option.long] : []));
  const walk = (command: Command, path: string): Entry[] => [
    { path, words: [...command.commands.map((child) => child.name()), ...(path === "" ? program.options.flatMap((o) => (o.long ? [o.long] : [])) : flags(command))] },
    ...command.commands.flatMap((child) => walk(child, `${path} ${child.name()}`.trim())),
  ];
  return walk(program, "");
}

function scriptOf(shell: (typeof SHELLS)[number], program: Command): string {
  const entries = entriesOf(program);
  if (shell === "fish") {
    return `${entries
      .filter((entry) => entry.path === "" || !entry.path.includes(" "))
      .flatMap((entry) => entry.words.map((word) => `complete -c pawl ${entry.path === "" ? "-n __fish_use_subcommand" : `-n '__fish_seen_subcommand_from ${entry.path}'`} ${word.startsWith("--") ? `-l ${word.slice(2)}` : `-a ${word} -f`}`))
      .join("\n")}\n`;
  }
  const cases = entries.filter((entry) => entry.path !== "").map((entry) => `    "${entry.path}") words="${entry.words.join(" ")}";;`).reverse().join("\n");
  const body = `_pawl() {
  local current="\${COMP_WORDS[COMP_CWORD]}" path="" words="${entries[0]!.words.join(" ")}" i
  for ((i = 1; i < COMP_CWORD; i++)); do case "\${COMP_WORDS[i]}" in -*) ;; *) path="\${path:+$path }\${COMP_WORDS[i]}";; esac; done
  path="$(echo "$path" | cut -d' ' -f1-2)"
  case "$path" in
${cases}
    *) path="\${path%% *}"; case "$path" in
${cases}
    esac;;
  esac
  COMPREPLY=($(compgen -W "$words" -f -- "$current"))
}
complete -F _pawl pawl
`;
  return shell === "zsh" ? `autoload -U +X bashcompinit && bashcompinit\n${body}` : body;
}
