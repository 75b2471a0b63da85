package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts the flags of a command line before its other arguments, which is where package flag looks for them: people
// write `pumice chat MODEL -p TEXT` and put global flags behind the command. What follows `--` stays as it is.
func arrange(app *cli.App, args []string) ([]string, error) {
	const completion = "--generate-bash-completion"
	if len(args) == 0 || args[len(args)-1] == completion {
		return args, nil
	}
	global := known(app.Flags)
	var globals, flags, rest []string
	var command *cli.Command
	own := map[string]kind{}
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if command == nil {
				if command = app.Command(arg); command == nil {
					return args, nil // help, or an error that app reports
				}
				own = known(command.Flags)
				continue
			}
			rest = append(rest, arg)
			continue
		}
		arg = dashed(arg)
		name, _, valued := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takes, ofCommand := own[name]
		to := &flags
		if !ofCommand {
			var ok bool
			to = &globals
			if takes, ok = global[name]; !ok {
				return nil, unknownFlag(arg, command)
			}
			if isHelp(name) && command != nil {
				to = &flags
			}
		}
		switch {
		case takes == value && !valued:
			if i++; i == len(args) {
				return nil, &usageError{fmt.Sprintf("%s needs a value", arg)}
			}
			*to = append(*to, arg, args[i])
		case takes == onSwitch && !valued && i+1 < len(args) && (args[i+1] == "true" || args[i+1] == "false"):
			i++
			*to = append(*to, arg+"="+args[i])
		default:
			*to = append(*to, arg)
		}
	}
	out := append([]string{args[0]}, globals...)
	if command != nil {
		out = append(out, command.Name)
		out = append(out, flags...)
		out = append(out, "--")
	}
	return append(out, rest...), nil
}

// dashed writes a flag's name with dashes, for people used to programs that have underscores there.
func dashed(arg string) string {
	name, rest, valued := strings.Cut(arg, "=")
	name = strings.ReplaceAll(name, "_", "-")
	if valued {
		return name + "=" + rest
	}
	return name
}

// kind is what a flag takes.
type kind int

const (
	value     kind = iota
	offSwitch      // nothing
	onSwitch       // true or false: it is on already, so that giving it alone means nothing
)

// known lists flags by name.
func known(flags []cli.Flag) map[string]kind {
	names := map[string]kind{"help": offSwitch, "h": offSwitch}
	for _, f := range flags {
		k := value
		if b, ok := f.(*cli.BoolFlag); ok {
			k = offSwitch
			if b.Value {
				k = onSwitch
			}
		}
		for _, name := range f.Names() {
			names[name] = k
		}
	}
	return names
}

func isHelp(name string) bool { return slices.Contains(cli.HelpFlag.Names(), name) }

func unknownFlag(arg string, command *cli.Command) error {
	if command == nil {
		return &usageError{fmt.Sprintf("unknown flag %s; see pumice --help", arg)}
	}
	return &usageError{fmt.Sprintf("unknown flag %s of %s; see pumice %s --help", arg, command.Name, command.Name)}
}
