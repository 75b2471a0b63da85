package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// completions are scripts that ask the program itself (--generate-bash-completion) for possible next words.
var completions = map[string]string{
	"bash": `_pumice() {
  local words=("${COMP_WORDS[@]:0:$COMP_CWORD}") cur="${COMP_WORDS[COMP_CWORD]}"
  [[ "$cur" == -* ]] && words+=("$cur")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _pumice pumice
`,
	"zsh": `#compdef pumice
_pumice() {
  local -a opts
  local cur=${words[-1]}
  if [[ "$cur" == -* ]]; then
    opts=("${(@f)$(${words[@]:0:#words[@]-1} ${cur} --generate-bash-completion 2>/dev/null)}")
  else
    opts=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  if [[ -n "${opts[1]}" ]]; then _describe values opts; else _files; fi
}
compdef _pumice pumice
`,
}

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name:        "completion",
		Category:    ofProgram,
		Usage:       "print a script that completes commands and flags in a shell",
		ArgsUsage:   "bash|zsh|fish",
		Description: "For example: source <(pumice completion bash)",
		Action: func(c *cli.Context) error {
			if err := noMoreArgs(c, 1); err != nil {
				return err
			}
			shell := c.Args().First()
			script, ok := completions[shell]
			if shell == "fish" {
				var err error
				if script, err = c.App.ToFishCompletion(); err != nil {
					return err
				}
			} else if !ok {
				return &usageError{fmt.Sprintf("completion: %q: want bash, zsh or fish", shell)}
			}
			return p.printf("%s\n", strings.TrimSuffix(script, "\n"))
		},
	}
}
