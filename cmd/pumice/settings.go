package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pumice/internal/humanize"
)

// A setting is a parameter that /set shows and changes. Changes count for this conversation and those that begin later.
type setting struct {
	name, about string
	values      []string // that it may have; nil: others
	get         func(r *repl) string
	set         func(r *repl, value string) error
}

// whenFull says what becomes of a conversation that has no room in the context.
const (
	forget = "forget"
	stop   = "stop"
)

var settings = []setting{
	number("temp", "0 always takes the likeliest token", func(t *talk) *float32 { return &t.options.Sampling.Temperature }),
	count("top-k", "keep so many tokens; 0 turns this off", func(t *talk) *int { return &t.options.Sampling.TopK }),
	number("top-p", "keep tokens whose probabilities add up to this", func(t *talk) *float32 { return &t.options.Sampling.TopP }),
	number("min-p", "keep tokens with this share of the likeliest's", func(t *talk) *float32 { return &t.options.Sampling.MinP }),
	number("repeat-penalty", "1 turns this off", func(t *talk) *float32 { return &t.options.Sampling.RepeatPenalty }),
	number("presence-penalty", "0 turns this off", func(t *talk) *float32 { return &t.options.Sampling.PresencePenalty }),
	number("frequency-penalty", "0 turns this off", func(t *talk) *float32 { return &t.options.Sampling.FrequencyPenalty }),
	count("repeat-last-n", "tokens that the penalties look at; 0 is all", func(t *talk) *int { return &t.options.Sampling.RepeatLastN }),
	{"seed", "a number, or random", nil, func(r *repl) string { return fmt.Sprint(r.talk.options.Sampling.Seed) }, (*repl).setSeed},
	{"stop", "end answers before this text; none removes all", nil, (*repl).stops, (*repl).setStop},
	count("max-tokens", "of an answer; 0 is no limit but the context", func(t *talk) *int { return &t.options.MaxTokens }),
	{"context", "tokens; a change loads the model again", nil, func(r *repl) string { return fmt.Sprint(r.talk.engine.Context()) }, (*repl).setContext},
	{"when-full", "forget old messages, or stop", []string{forget, stop},
		func(r *repl) string { return r.fresh.whenFull }, func(r *repl, value string) error { r.fresh.whenFull = value; return nil }},
	{"thinking", "how reasoning is shown", thinkingShown,
		func(r *repl) string { return r.look.thinking }, func(r *repl, value string) error { r.look.thinking = value; return nil }},
	toggle("plain", "answers without layout", func(r *repl) *bool { return &r.look.plain }),
	toggle("verbose", "show the speed of each answer", func(r *repl) *bool { return &r.look.verbose }),
}

func number(name, about string, field func(t *talk) *float32) setting {
	return setting{name, about, nil, func(r *repl) string { return fmt.Sprint(*field(r.talk)) }, func(r *repl, value string) error {
		x, err := strconv.ParseFloat(value, 32)
		if err != nil {
			return fmt.Errorf("%s %q: not a number", name, value)
		}
		return change(r, field, float32(x))
	}}
}

func count(name, about string, field func(t *talk) *int) setting {
	return setting{name, about, nil, func(r *repl) string { return fmt.Sprint(*field(r.talk)) }, func(r *repl, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("%s %q: want 0 or a count", name, value)
		}
		return change(r, field, n)
	}}
}

// change sets a field of this conversation and of new ones, if the sampling parameters are valid then.
func change[T any](r *repl, field func(t *talk) *T, value T) error {
	before := *field(r.talk)
	*field(r.talk) = value
	if err := r.talk.options.Sampling.Validate(); err != nil {
		*field(r.talk) = before
		return err
	}
	*field(&r.fresh) = value
	return nil
}

func toggle(name, about string, field func(r *repl) *bool) setting {
	words := []string{"off", "on"}
	return setting{name, about, words, func(r *repl) string {
		if *field(r) {
			return "on"
		}
		return "off"
	}, func(r *repl, value string) error { *field(r) = value == "on"; return nil }}
}

// ollamasNames are names that people know from ollama's /set parameter.
var ollamasNames = map[string]string{"temperature": "temp", "num-ctx": "context", "num-predict": "max-tokens"}

// set is /set.
func (r *repl) set(argument string) error {
	name, value, given := strings.Cut(strings.TrimPrefix(argument, "parameter "), " ")
	value = strings.TrimSpace(value)
	if name == "" {
		return r.printf("%s", r.parameters())
	}
	name = strings.ReplaceAll(name, "_", "-")
	if name == "system" {
		return r.system(value)
	}
	if known, ok := ollamasNames[name]; ok {
		name = known
	}
	i := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
	if i < 0 {
		return fmt.Errorf("there is no parameter %q; /set alone shows all", beginning(name, maxName))
	}
	s := settings[i]
	if given && value != "" {
		if s.values != nil && !slices.Contains(s.values, value) {
			return fmt.Errorf("%s %q: want %s", name, value, strings.Join(s.values, " or "))
		}
		if err := s.set(r, value); err != nil {
			return err
		}
	}
	r.say("%s is %s", s.name, s.get(r))
	return nil
}

// parameters lists the settings.
func (r *repl) parameters() string {
	var b strings.Builder
	for _, s := range settings {
		about := s.about
		if s.values != nil {
			about = strings.Join(s.values, ", ") + ": " + about
		}
		fmt.Fprintf(&b, "%-18s %-10s %s\n", s.name, s.get(r), about)
	}
	return b.String()
}

func (r *repl) setSeed(value string) error {
	seed := randomSeed()
	if value != "random" {
		var err error
		if seed, err = strconv.ParseUint(value, 10, 64); err != nil {
			return fmt.Errorf("seed %q: want a number, or random", value)
		}
	}
	r.seeded = value != "random"
	r.talk.options.Sampling.Seed, r.fresh.options.Sampling.Seed = seed, seed
	return nil
}

// stops describes the texts that end answers besides those of the chat format.
func (r *repl) stops() string {
	own := r.talk.options.Stop[min(r.talk.formatStops, len(r.talk.options.Stop)):]
	if len(own) == 0 {
		return "none"
	}
	quoted := make([]string, len(own))
	for i, text := range own {
		quoted[i] = strconv.Quote(text)
	}
	return strings.Join(quoted, " ")
}

func (r *repl) setStop(value string) error {
	for _, t := range []*talk{r.talk, &r.fresh} {
		if value == "none" {
			t.options.Stop = t.options.Stop[:min(t.formatStops, len(t.options.Stop))]
		} else {
			t.options.Stop = append(slices.Clip(t.options.Stop), value)
		}
	}
	return nil
}

// setContext loads the model again with room for another number of tokens. If that fails, it has the one of before.
func (r *repl) setContext(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		return fmt.Errorf("context %q: want a number of tokens", value)
	}
	if r.reopen == nil {
		return errors.New("the context can't be changed beside a draft model")
	}
	const loading = "loading the model again"
	defer r.stoppable(loading, func() {})() // what comes after a half-loaded model would be none
	progress := func(done, total int64) {
		if r.console != nil && total > 0 {
			r.console.progress(fmt.Sprintf("%s: %d %%", loading, 100*done/total))
		}
	}
	before := r.fresh.engine.Context()
	e, err := r.reopen(n, progress)
	if err != nil {
		var again error
		if e, again = r.reopen(before, progress); again != nil {
			r.dead = again
			r.say(deadHint)
			return errors.Join(err, again)
		}
	}
	r.fresh.engine = e
	for _, t := range r.talks {
		t.engine, t.session = e, e.NewSession()
	}
	return err
}

var showTopics = []string{"model", "template", "parameters", "memory", "kernels", "system", "thoughts"}

// show is /show.
func (r *repl) show(topic string) error {
	switch t := r.talk; topic {
	case "", "model", "info": // ollama's word
		return r.showModel()
	case "template":
		format, err := t.engine.ChatFormat()
		if err != nil {
			return err
		}
		if format.Template() == "" {
			return r.printf("the built-in format %s\n", format.Name())
		}
		return r.printf("%s\n", strings.TrimRight(format.Template(), "\n"))
	case "parameters":
		return r.printf("%s", r.parameters())
	case "memory":
		m := t.engine.Memory()
		var b strings.Builder
		table := tabular{&b, 36}
		table.row("weights", "%s", humanize.Bytes(m.WeightsBytes))
		table.row(fmt.Sprintf("KV cache of %d tokens, %s", m.CacheTokens, m.KVType), "%s", humanize.Bytes(m.CacheBytes))
		table.row("activations", "%s", humanize.Bytes(m.ArenaBytes+m.OutputBytes+m.TableBytes))
		table.row("together", "%s", humanize.Bytes(m.TotalBytes))
		return r.printf("%s", b.String())
	case "kernels":
		k := t.engine.Kernels()
		if len(k.Used) == 0 {
			return r.printf("no kernel was used yet\n")
		}
		return r.printf("used: %s\nnot verified: %s\nrefused: %s\n", listOr(k.Used), listOr(k.Unverified), listOr(k.Refused))
	case "system":
		return r.system("")
	case "thoughts":
		for _, m := range slices.Backward(t.messages) {
			if m.Reasoning != "" {
				if err := r.p.prose(strings.TrimSpace(m.Reasoning) + "\n"); err != nil {
					return &writeError{err}
				}
				return nil
			}
		}
		return errors.New("no answer has reasoning")
	}
	return fmt.Errorf("/show %s: want %s", beginning(topic, maxName), strings.Join(showTopics, ", "))
}

func listOr(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (r *repl) showModel() error {
	t := r.talk
	var b strings.Builder
	table := tabular{&b, 36}
	table.row("model", "%s", t.engine.Source().Path)
	for _, d := range t.engine.Devices() {
		table.row("device", "%s", d.Info().Name)
	}
	if format, err := t.engine.ChatFormat(); err == nil {
		table.row("chat format", "%s", format.Name())
	}
	table.row("context", "%d tokens", t.engine.Context())
	table.row("device memory", "%s", humanize.Bytes(t.engine.Memory().TotalBytes))
	p := t.options.Sampling
	table.row("sampling", "temp %v, top-k %d, top-p %v, min-p %v, seed %d", p.Temperature, p.TopK, p.TopP, p.MinP, p.Seed)
	return r.printf("%s", b.String())
}
