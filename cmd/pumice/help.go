package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// Categories of flags, in the order of the help. A flag without one is the command's own and comes first.
const (
	inCommon    = "Common"
	inTests     = "Tests"
	inMeasuring = "Measuring"
	inOutput    = "Output"
	inSampling  = "Sampling"
	inModel     = "Model"
	inDevice    = "Device"
	inExpert    = "Expert"
)

var flagCategories = []string{inCommon, inTests, inMeasuring, inOutput, inSampling, inModel, inDevice, inExpert}

// Categories of commands, in the order of the help.
const (
	ofTalk    = "Talk to models"
	ofModels  = "Models on this machine"
	ofDevices = "Devices and speed"
	ofQuality = "Quality"
	ofTokens  = "Tokens and vectors"
	ofProgram = "The program itself"
)

var commandCategories = []string{ofTalk, ofModels, ofDevices, ofQuality, ofTokens, ofProgram}

// grouped puts flags into a category.
func grouped(category string, flags ...cli.Flag) []cli.Flag {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Category = category
		case *cli.StringSliceFlag:
			f.Category = category
		case *cli.IntFlag:
			f.Category = category
		case *cli.Uint64Flag:
			f.Category = category
		case *cli.Float64Flag:
			f.Category = category
		case *cli.BoolFlag:
			f.Category = category
		case *cli.DurationFlag:
			f.Category = category
		case *cli.GenericFlag:
			f.Category = category
		default:
			panic(fmt.Sprintf("flag %v of type %T", f.Names(), f))
		}
	}
	return flags
}

// examples are command lines of each command, most useful first. "" is the program.
var examples = map[string][]string{
	"":           {"pumice chat", "git diff | pumice ask \"Write a commit message.\"", "pumice serve", "pumice help chat"},
	"ask":        {"pumice ask \"Why is the sky blue?\"", "git diff | pumice ask \"Write a commit message.\"", "pumice ask -m hf:owner/name:Q4_K_M --schema person.json \"Invent a person.\""},
	"bench":      {"pumice bench smollm2", "pumice bench MODEL -p 512,2048 -n 128 -d 0,4096", "pumice bench MODEL -p 512 -n 128 -np 1,4,8", "pumice bench small.gguf large.gguf -pg 512,128 -o json >new.json", "pumice bench compare old.json new.json"},
	"chat":       {"pumice chat", "pumice chat hf:owner/name:Q4_K_M --temp 0", "pumice chat MODEL --system \"Be brief.\" --context 8192"},
	"completion": {"source <(pumice completion bash)", "pumice completion fish >~/.config/fish/completions/pumice.fish"},
	"detokenize": {"pumice detokenize smollm2 9707,11", "pumice tokenize smollm2 hello | pumice detokenize smollm2"},
	"devices":    {"pumice devices", "pumice devices --json"},
	"embed":      {"pumice embed MODEL \"Which rock floats?\"", "pumice embed MODEL --json <lines.txt"},
	"eval":       {"pumice eval ls groups", "pumice eval MODEL --tasks mmlu --output-path results", "pumice eval compare results-a results-b"},
	"generate":   {"pumice generate smollm2 -p \"Once upon a time\" -n 64", "pumice generate MODEL --tokens 1,2,3 --json --logprobs 5"},
	"inspect":    {"pumice inspect smollm2", "pumice inspect MODEL --dtype q4_k --context 32768", "pumice inspect MODEL --json"},
	"kernels":    {"pumice kernels --stats", "pumice kernels MODEL", "pumice kernels --stats --types q6_k --json"},
	"licenses":   {"pumice licenses", "pumice licenses --full"},
	"list":       {"pumice list", "pumice list --json"},
	"logits":     {"pumice logits smollm2 -p \"The capital of France is\"", "pumice logits MODEL --tokens 1,2,3 --all --output logits.f32"},
	"man":        {"pumice man chat | man -l -", "pumice man --output-dir ~/.local/share/man/man1"},
	"perplexity": {"pumice perplexity smollm2 -f text.txt", "pumice perplexity MODEL -f text.txt --kl-base base.kld", "pumice perplexity SMALLER --kl --kl-base base.kld"},
	"ps":         {"pumice ps"},
	"pull":       {"pumice pull hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0", "pumice pull hf:HuggingFaceTB/SmolLM2-135M-Instruct"},
	"quantize":   {"pumice quantize MODEL model-q4_k.gguf --type q4_k"},
	"rm":         {"pumice rm hf:owner/name:Q8_0"},
	"serve":      {"pumice serve", "pumice serve small=smollm2 code=coder.gguf --ttl 10m", "pumice serve MODEL --host 0.0.0.0 --api-key SECRET"},
	"stop":       {"pumice stop smollm2"},
	"synth":      {"pumice synth --family llama --size 7b -o llama-7b"},
	"tokenize":   {"pumice tokenize smollm2 \"Hello, world!\"", "pumice tokenize MODEL --messages chat.json --json"},
	"tune":       {"pumice tune", "pumice tune --types q4_k,q6_k --budget 2m"},
	"verify":     {"pumice verify --quick", "pumice verify --types q4_k --verbose", "pumice verify --model smollm2"},
}

// A helpPage is what help and manual say of a command, or of the program.
type helpPage struct {
	command  string // "" for the program
	summary  string
	synopsis string
	text     []string // paragraphs
	groups   []helpGroup
}

// A helpGroup is a list of flags or commands.
type helpGroup struct {
	title string
	items []helpItem
}

type helpItem struct{ name, text string }

// title is what the page is called.
func (h *helpPage) title() string { return strings.TrimSpace("pumice " + h.command) }

// commandPage describes a command.
func commandPage(c *cli.Command) *helpPage {
	page := &helpPage{command: c.Name, summary: c.Usage, text: paragraphs(c.Description)}
	page.synopsis = strings.Join(slices.DeleteFunc([]string{page.title(), "[flags]", c.ArgsUsage}, func(s string) bool { return s == "" }), " ")
	if len(c.Aliases) > 0 {
		page.text = append([]string{fmt.Sprintf("pumice %s is the same.", strings.Join(c.Aliases, " and pumice "))}, page.text...)
	}
	flags := c.Flags
	if slices.ContainsFunc(flags, func(f cli.Flag) bool { return f.(cli.CategorizableFlag).GetCategory() == inDevice }) {
		flags = append([]cli.Flag{deviceFlag()}, flags...)
	}
	page.groups = flagGroups(flags)
	page.text = append(page.text, "Global flags such as --quiet can be given too: see pumice --help. An environment variable "+
		"can stand for each flag: PUMICE_TOP_K for --top-k.")
	return page
}

// appPage describes the program.
func appPage(app *cli.App) *helpPage {
	page := &helpPage{summary: app.Usage, synopsis: app.UsageText, text: paragraphs(app.Description)}
	for _, category := range commandCategories {
		g := helpGroup{title: category}
		for _, c := range app.Commands {
			if c.Category == category && !c.Hidden {
				g.items = append(g.items, helpItem{strings.Join(c.Names(), ", "), c.Usage})
			}
		}
		page.groups = append(page.groups, g)
	}
	global := helpGroup{title: "Global flags"}
	for _, f := range slices.Concat(app.Flags, []cli.Flag{cli.HelpFlag}) {
		global.items = append(global.items, flagItem(f.(cli.DocGenerationFlag)))
	}
	page.groups = append(page.groups, global)
	return page
}

// flagGroups describes flags by category.
func flagGroups(flags []cli.Flag) (groups []helpGroup) {
	for _, category := range flagCategories {
		g := helpGroup{title: category}
		for _, f := range flags {
			in := f.(cli.CategorizableFlag).GetCategory()
			if in == "" {
				in = inCommon
			}
			if in == category {
				g.items = append(g.items, flagItem(f.(cli.DocGenerationFlag)))
			}
		}
		if len(g.items) > 0 {
			groups = append(groups, g)
		}
	}
	if len(groups) == 1 {
		groups[0].title = "Flags"
	}
	return groups
}

// flagItem describes a flag: short names first, and its default last.
func flagItem(f cli.DocGenerationFlag) helpItem {
	var short, long []string
	for _, name := range f.Names() {
		if spelled := spelledFlag(f, name); strings.HasPrefix(spelled, "--") {
			long = append(long, spelled)
		} else {
			short = append(short, spelled)
		}
	}
	item := helpItem{name: strings.Join(append(short, long...), ", "), text: f.GetUsage()}
	if before, value, ok := strings.Cut(item.text, "`"); ok {
		value, after, _ := strings.Cut(value, "`")
		item.name += " " + value
		item.text = before + value + after
	}
	silent := strings.Trim(f.GetDefaultText(), `"`)
	switch _, isBool := f.(*cli.BoolFlag); {
	case isBool && silent == "true":
		silent = "on"
	case isBool:
		silent = ""
	}
	if silent != "" && !strings.Contains(item.text, "(default:") {
		item.text += fmt.Sprintf(" (default: %s)", silent)
	}
	return item
}

// paragraphs joins the lines of a text's paragraphs, between which lines are empty.
func paragraphs(text string) (list []string) {
	for p := range strings.SplitSeq(text, "\n\n") {
		if p = strings.Join(strings.Fields(p), " "); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// helpWidth is the width of help, which suits every terminal.
const helpWidth = 80

// helpColumn is where the texts of flags and commands begin.
const helpColumn = 26

// String is the page for a terminal.
func (h *helpPage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nExamples:\n", wrap(h.title()+": "+h.summary, 0))
	for _, example := range examples[h.command] {
		fmt.Fprintf(&b, "  %s\n", example)
	}
	fmt.Fprintf(&b, "\nUsage:\n%s\n", wrap(h.synopsis, 2))
	for _, p := range h.text {
		fmt.Fprintf(&b, "\n%s\n", wrap(p, 0))
	}
	for _, g := range h.groups {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, item := range g.items {
			text := wrap(item.text, helpColumn)
			if name := "  " + item.name; len(name) <= helpColumn-2 {
				text = name + text[len(name):]
			} else {
				text = name + "\n" + text
			}
			fmt.Fprintf(&b, "%s\n", text)
		}
	}
	return b.String()
}

// wrap breaks a text into lines of at most helpWidth characters that begin with so many spaces. A longer word has a line of its own.
func wrap(text string, indent int) string {
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(text) {
		switch {
		case width == 0:
			b.WriteString(strings.Repeat(" ", indent))
			width = indent
		case width+1+len(word) > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			width = indent
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}

// describe has package cli print the pages.
func describe(app *cli.App) {
	literal := func(text string) string { return "{{" + strconv.Quote(text) + "}}" } // package cli wants a template
	app.CustomAppHelpTemplate = literal(appPage(app).String())
	for _, c := range app.Commands {
		c.CustomHelpTemplate = literal(commandPage(c).String())
	}
}
