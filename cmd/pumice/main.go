// Command pumice chats with, evaluates and inspects large language models on Vulkan devices.
//
// Results go to standard output, logs and progress to standard error. The exit status is 0 when all went well, 1 for a
// failure, 2 for a mistake in the command line, 3 without a usable device, 4 when the model does not fit in device
// memory, and 130 when interrupted. A shell reports a crash as 134, and 141 when the reader of standard output is
// gone.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/version"
	"pumice/sample"
	"pumice/shaders"
)

// Exit statuses.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitNoDevice    = 3
	exitNoMemory    = 4
	exitInterrupted = 130
)

func main() {
	distinctCrashes()
	os.Exit(newProgram(os.Stdin, os.Stdout, os.Stderr).run(os.Args))
}

// program is one run of the command.
type program struct {
	stdin          *os.File
	stdout, stderr *stream
	log            zerolog.Logger
	quiet          bool // neither progress nor warnings
	interrupt      *interrupt
	window         *window // nil: --window was not given
}

func newProgram(stdin, stdout, stderr *os.File) *program {
	return &program{stdin: stdin, stdout: newStream(stdout), stderr: newStream(stderr)}
}

// run returns the exit status.
func (p *program) run(args []string) int {
	defer p.stderr.flush()
	defer p.stdout.flush()
	p.interrupt = watchSignals(p.stderr)
	defer p.interrupt.end()
	defer p.closeWindow()
	for name, run := range map[string]func(context.Context, []string) error{llamaServerName: p.llamaServer, llamaQuantizeName: p.llamaQuantize} {
		if args, ok := calledAs(name, args); ok {
			p.log = zerolog.New(p.stderr).With().Timestamp().Logger().Level(zerolog.WarnLevel)
			err := run(p.interrupt.ctx, args)
			if err != nil {
				fmt.Fprintln(p.stderr, hosted(err))
			}
			return status(err)
		}
	}
	app := p.app()
	args, err := arrange(app, args)
	if err == nil {
		err = app.RunContext(p.interrupt.ctx, args)
	}
	if err == errDone {
		err = nil
	}
	return p.ended(err)
}

// ended reports an error, and returns the exit status.
func (p *program) ended(err error) int {
	if err != nil {
		p.complain(err)
	}
	return status(err)
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:      "pumice",
		Usage:     "run large language models through Vulkan",
		UsageText: "pumice [global flags] COMMAND [flags] [MODEL] [arguments]",
		Description: "MODEL is a GGUF file, a Hugging Face directory, hf:owner/name[:file][@revision] in the Hub's cache, ollama:name[:tag] in\n" +
			"ollama's, or a name. Where it is left out it is that of PUMICE_MODEL, else " + pumice.DefaultModel + ". pumice pull fetches hf: models, and\n" +
			"list lists what is there.\n\n" +
			"An environment variable can stand for each flag: PUMICE_TOP_K for --top-k. pumice COMMAND --help describes the flags of a\n" +
			"command.\n\n" +
			"Ctrl-C, SIGTERM or SIGHUP ends a command within two seconds; a second one ends it at once.\n\n" +
			"Exit status: 0 success, 1 failure, 2 wrong usage, 3 no usable device, 4 the model does not fit in device memory,\n" +
			"130 interrupted, 134 crash, 141 the reader of standard output is gone.",
		Flags: globalFlags(),
		Commands: []*cli.Command{
			p.devicesCommand(), p.chatCommand(), p.askCommand(), p.generateCommand(), p.logitsCommand(), p.embedCommand(), p.tokenizeCommand(), p.detokenizeCommand(),
			p.inspectCommand(), p.verifyCommand(), p.tuneCommand(), p.kernelsCommand(), p.benchCommand(), p.evalCommand(), p.perplexityCommand(), p.quantizeCommand(), p.serveCommand(),
			p.pullCommand(), p.listCommand(), p.rmCommand(), p.psCommand(), p.stopCommand(),
			p.completionCommand(), p.licensesCommand(), p.manCommand(), p.synthCommand(),
		},
		EnableBashCompletion:      true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // a stop string may hold a comma
		Reader:                    p.stdin,
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		Before:                    p.configure,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usage,
	}
	app.Action = func(c *cli.Context) error {
		if name := c.Args().First(); name != "" {
			return &usageError{fmt.Sprintf("unknown command %q; see pumice --help", name)}
		}
		return cli.ShowAppHelp(c)
	}
	for _, command := range app.Commands {
		command.OnUsageError = usage
		command.HideHelpCommand = true
	}
	describe(app)
	return app
}

// errDone ends the program before its command.
var errDone = errors.New("done")

// version prints which program this is. What is hashed says so also where a build has no commit.
func (p *program) version() error {
	commit, modified := version.Commit()
	switch {
	case commit == "":
		commit = "unknown"
	case modified:
		commit += ", modified"
	}
	program, err := version.Program()
	if err != nil {
		return err
	}
	kernels, err := shaders.Hash()
	if err != nil {
		return err
	}
	return p.printf("pumice %s\ncommit  %s\nbuild   %s, sha256 %s\nshaders sha256 %s\n", version.Release(), commit, version.Build(), program, kernels)
}

// configure acts on the global flags.
func (p *program) configure(c *cli.Context) error {
	if c.Bool("version") {
		if err := p.version(); err != nil {
			return err
		}
		return errDone
	}
	p.quiet = c.Bool("quiet")
	level, err := zerolog.ParseLevel(c.String("log-level"))
	if err != nil || level == zerolog.NoLevel {
		return &usageError{fmt.Sprintf("--log-level %q: want debug, info, warn or error", c.String("log-level"))}
	}
	if p.quiet {
		level = max(level, zerolog.ErrorLevel)
	}
	switch format := c.String("log-format"); format {
	case "json":
		p.log = zerolog.New(p.stderr).With().Timestamp().Logger()
	case "text":
		p.log = zerolog.New(zerolog.ConsoleWriter{
			Out: p.stderr.styled(), NoColor: !colour(p.stderr), PartsExclude: []string{zerolog.TimestampFieldName},
			FormatPrepare: func(event map[string]any) error {
				if p.stderr.terminal {
					visibleValue(event)
				}
				return nil
			},
		})
	default:
		return &usageError{fmt.Sprintf("--log-format %q: want text or json", format)}
	}
	p.log = p.log.Level(level)
	return nil
}

// A usageError is a mistake in the command line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

// usage returns an error of package cli or flag in this program's words.
func usage(c *cli.Context, err error, _ bool) error {
	for _, form := range valueErrors {
		m := form.FindStringSubmatch(err.Error())
		if m == nil {
			continue
		}
		text, quoteErr := strconv.Unquote(m[form.SubexpIndex("value")])
		name := m[form.SubexpIndex("flag")]
		at := slices.IndexFunc(c.Command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
		if quoteErr != nil || at < 0 {
			break
		}
		name = spelledFlag(c.Command.Flags[at], name)
		if i := form.SubexpIndex("variable"); i > 0 {
			name = m[i]
		}
		return &usageError{fmt.Sprintf("%s %q: want %s", name, text, wanted(c.Command.Flags[at]))}
	}
	return &usageError{err.Error()}
}

// valueErrors are the forms of errors of packages flag and cli (v2.27.7) about a flag's value.
var valueErrors = []*regexp.Regexp{
	regexp.MustCompile(`^invalid value (?P<value>".*") for flag -(?P<flag>\S+): `),
	regexp.MustCompile(`^invalid boolean value (?P<value>".*") for -(?P<flag>\S+): `),
	regexp.MustCompile(`^could not parse (?P<value>".*?") .*from environment variable "(?P<variable>\w+)" .*for flag (?P<flag>\S+): `),
}

// spelledFlag is a flag's name as people write it: aliases of up to three letters have one dash.
func spelledFlag(f cli.Flag, name string) string {
	if name != f.Names()[0] && len(name) <= 3 {
		return "-" + name
	}
	return "--" + name
}

// wanted says what a flag takes.
func wanted(f cli.Flag) string {
	switch f := f.(type) {
	case *cli.IntFlag:
		return "a whole number"
	case *cli.Uint64Flag:
		return "a whole number from 0"
	case *cli.Float64Flag:
		return "a number"
	case *cli.DurationFlag:
		return "a time such as 50s or 10m"
	case *cli.BoolFlag:
		return "true or false"
	case *cli.GenericFlag:
		if _, ok := f.Value.(*seedValue); ok {
			return "a whole number from 0, or -1 for a random one"
		}
		return "a size such as 512M or 2G"
	}
	return "another value"
}

// status is the exit status for an error.
func status(err error) int {
	if err == nil {
		return 0
	}
	var wrong *usageError
	var option *pumice.OptionError
	var param *sample.ParamError
	var fit *pumice.FitError
	var cache *pumice.CacheError
	switch {
	case errors.As(err, &wrong), errors.As(err, &option), errors.As(err, &param), errors.As(err, &cache):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &fit), errors.Is(err, pumice.ErrOutOfDeviceMemory):
		return exitNoMemory
	case errors.Is(err, pumice.ErrNoDevice):
		return exitNoDevice
	}
	return exitFailure
}

// hosted is an error in one line as programs look for it that start llama.cpp's (ollama v0.31.0, llm/status.go): they show what
// begins with error, and may try again with a shorter context where memory is the reason.
func hosted(err error) string {
	text := strings.TrimPrefix(line(err), "pumice: ")
	if status(err) == exitNoMemory {
		text = "failed to allocate device memory: " + text
	}
	return "error: " + text
}

// line is an error in one line, with the program's name in front.
func line(err error) string {
	if errors.Is(err, context.Canceled) {
		return "pumice: interrupted"
	}
	text := strings.ReplaceAll(strings.TrimSpace(spelt(err)), "\n", "; ")
	return "pumice: " + strings.TrimPrefix(text, "pumice: ")
}
