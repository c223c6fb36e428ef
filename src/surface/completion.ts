// `pawl completion SHELL` prints a script for the shell; the script asks `pawl completion complete -- WORDS` for each press of
// TAB. Both are the work of @bomb.sh/tab, which is told about every command, flag and choice of the program.
import { readdirSync } from "node:fs";
import { resolve } from "node:path";
import type { Command, Option } from "commander";
import { PawlError } from "../base/errors.ts";
import { PRESETS } from "../worker/presets.ts";
import type { Io } from "./io.ts";

const SHELLS = ["bash", "zsh", "fish", "powershell"];

const EXAMPLES = `
Examples:
  echo 'source <(pawl completion bash)' >> ~/.bashrc
  echo 'source <(pawl completion zsh)' >> ~/.zshrc
  pawl completion fish > ~/.config/fish/completions/pawl.fish
`;

/** The one function that the script takes from the package bash-completion, for where that is not installed. */
const WITHOUT_BASH_COMPLETION = `type _get_comp_words_by_ref >/dev/null 2>&1 || _get_comp_words_by_ref() {
    cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} words=("\${COMP_WORDS[@]}") cword=$COMP_CWORD
}
`;

/** What may stand behind a flag, where the flag itself does not say. */
const VALUES: { readonly [flag: string]: readonly string[] } = { with: Object.keys(PRESETS), verify: ["ask"] };

export function addCompletionCommand(program: Command, io: Io): void {
  program
    .command("completion <shell> [words...]")
    .usage(SHELLS.join("|"))
    .description("Print a completion script for bash, zsh, fish or powershell")
    .addHelpText("after", EXAMPLES)
    .action(async (shell: string, words: string[]) => {
      if (!SHELLS.includes(shell) && shell !== "complete") throw new PawlError("usage", `There is no completion for ${shell}.`, { next: `Use one of: ${SHELLS.join(", ")}.` });
      const { RootCommand } = await import("@bomb.sh/tab");
      const root = describe(program, new RootCommand(), (shell === "complete" && words.at(-1)) || "", io.cwd);
      if (shell === "bash") io.out(WITHOUT_BASH_COMPLETION);
      printing(io, () => (shell === "complete" ? root.parse([...words]) : root.setup("pawl", "pawl completion", shell)));
    });
}

type Root = InstanceType<(typeof import("@bomb.sh/tab"))["RootCommand"]>;

/** `word` is the one that is being written, `cwd` where its files are. */
function describe(program: Command, root: Root, word: string, cwd: string): Root {
  const paths = once(() => pathsAt(word, cwd));
  for (const option of program.options) describeOption(root, option, paths);
  const walk = (command: Command, path: string): void => {
    const described = root.command(path, command.description());
    for (const option of [...command.options, ...program.options]) describeOption(described, option, paths);
    for (const argument of command.registeredArguments) {
      const choices = () => (command.name() === "completion" ? SHELLS : FILES.has(argument.name()) ? paths() : []);
      described.argument(argument.name(), (complete) => choices().forEach((choice) => complete(choice, "")), argument.variadic);
    }
    for (const child of command.commands) walk(child, `${path} ${child.name()}`);
  };
  for (const command of program.commands) walk(command, command.name());
  return root;
}

/** Arguments and values of flags that are a file. */
const FILES = new Set(["file", "module", "path"]);

/** The files and folders that begin as `word` does, written as it is. */
function pathsAt(word: string, cwd: string): string[] {
  const folder = word.slice(0, word.lastIndexOf("/") + 1);
  try {
    return readdirSync(resolve(cwd, folder), { withFileTypes: true }).map((entry) => `${folder}${entry.name}${entry.isDirectory() ? "/" : ""}`);
  } catch {
    return [];
  }
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => (made ??= { value: make() }).value;
}

function describeOption(command: ReturnType<Root["command"]>, option: Option, paths: () => readonly string[]): void {
  const name = option.long!.slice(2);
  const value = /[<[]([^>\]]+)[>\]]/.exec(option.flags)?.[1] ?? "";
  const choices = () => option.argChoices ?? VALUES[name] ?? (FILES.has(value) ? paths() : []);
  if (!option.required && !option.optional) command.option(name, option.description);
  else command.option(name, option.description, (complete) => choices().forEach((choice) => complete(choice, "")));
}

/** Tab prints by console.log. */
function printing(io: Io, run: () => void): void {
  const { log } = console;
  console.log = (text: string) => io.out(`${text}\n`);
  try {
    run();
  } finally {
    console.log = log;
  }
}
