// `pawl completion SHELL` prints a script for the shell; the script asks `pawl completion complete -- WORDS` for each press of
// TAB. Both are the work of @bomb.sh/tab, which is told about every command, flag and choice of the program.
import type { Command, Option } from "commander";
import { PawlError } from "../base/errors.ts";
import type { Io } from "./io.ts";

const SHELLS = ["bash", "zsh", "fish", "powershell"];

const EXAMPLES = `
Examples:
  echo 'source <(pawl completion bash)' >> ~/.bashrc
  echo 'source <(pawl completion zsh)' >> ~/.zshrc
  pawl completion fish > ~/.config/fish/completions/pawl.fish

bash needs the package bash-completion.`;

export function addCompletionCommand(program: Command, io: Io): void {
  program
    .command("completion <shell> [words...]")
    .usage(SHELLS.join("|"))
    .description("Print a completion script for bash, zsh, fish or powershell")
    .addHelpText("after", EXAMPLES)
    .action(async (shell: string, words: string[]) => {
      if (!SHELLS.includes(shell) && shell !== "complete") throw new PawlError("usage", `There is no completion for ${shell}.`, { next: `Use one of: ${SHELLS.join(", ")}.` });
      const { RootCommand } = await import("@bomb.sh/tab");
      const root = describe(program, new RootCommand());
      printing(io, () => (shell === "complete" ? root.parse([...words]) : root.setup("pawl", "pawl completion", shell)));
    });
}

type Root = InstanceType<(typeof import("@bomb.sh/tab"))["RootCommand"]>;

function describe(program: Command, root: Root): Root {
  for (const option of program.options) describeOption(root, option);
  const walk = (command: Command, path: string): void => {
    const described = root.command(path, command.description());
    for (const option of [...command.options, ...program.options]) describeOption(described, option);
    for (const argument of command.registeredArguments) {
      const choices = command.name() === "completion" ? SHELLS : [];
      described.argument(argument.name(), (complete) => choices.forEach((choice) => complete(choice, "")), argument.variadic);
    }
    for (const child of command.commands) walk(child, `${path} ${child.name()}`);
  };
  for (const command of program.commands) walk(command, command.name());
  return root;
}

function describeOption(command: ReturnType<Root["command"]>, option: Option): void {
  const name = option.long!.slice(2);
  if (!option.required && !option.optional) command.option(name, option.description);
  else command.option(name, option.description, (complete) => (option.argChoices ?? []).forEach((choice) => complete(choice, "")));
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
