package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pumice"
	"pumice/chat"
	"pumice/sample"
)

// TestFlagsOfFields: each field that has a flag exists, and so does the flag.
func TestFlagsOfFields(t *testing.T) {
	var flags []string
	app := newProgram(nil, nil, nil).app()
	for _, f := range app.Flags {
		flags = append(flags, f.Names()...)
	}
	for _, c := range app.Commands {
		for _, f := range c.Flags {
			flags = append(flags, f.Names()...)
		}
	}
	for field, flag := range flagOf {
		has := func(v any) bool { _, ok := reflect.TypeOf(v).FieldByName(field); return ok }
		if !has(pumice.Options{}) && !has(pumice.GenerateOptions{}) && !has(pumice.EmbedOptions{}) && !has(sample.Params{}) {
			t.Errorf("no options have a field %s", field)
		}
		if !slices.Contains(flags, strings.TrimLeft(flag, "-")) {
			t.Errorf("%s: no command has the flag %s", field, flag)
		}
	}
}

func TestErrorsAreSpeltAsFlags(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&pumice.OptionError{Field: "KVType", Value: "q4_0", Want: "f16"}, `pumice: --kv-type "q4_0": want f16`},
		{fmt.Errorf("pumice: %w", &pumice.OptionError{Field: "Stop", Want: "text"}), `pumice: --stop "": want text`},
		{&pumice.OptionError{Field: "HangTimeout", Value: "-1s", Want: "more"}, `pumice: HangTimeout "-1s": want more`}, // has no flag
		{&sample.ParamError{Field: "TopK", Value: -1, Want: "a count"}, "pumice: --top-k -1: want a count"},
		{fmt.Errorf("answer 2: %w", &sample.ParamError{Field: "TopP", Value: 2, Want: "0 to 1"}), "pumice: answer 2: --top-p 2: want 0 to 1"},
		{&sample.ParamError{Field: "RepeatLastN", Value: -1, Want: "a count"}, "pumice: sample: RepeatLastN -1: want a count"},
		{&pumice.PromptError{Tokens: 3, Context: 2}, "pumice: the prompt has 3 tokens, the context holds 2: shorten it, or ask for a longer one with --context"},
		{&pumice.FitError{Device: "gpu", Needed: 3 << 30, Available: 2 << 30, Fits: pumice.Smaller{Context: 2048, KVType: "Q8_0", DType: "Q4_K"}},
			"pumice: model: needs 3.0 GiB on gpu, which has 2.0 GiB available; would fit: --context 2048, or --kv-type q8_0, or --dtype q4_k"},
		{&chat.TooLongError{Format: "chatml", Tokens: 1002, Max: 192}, "pumice: chat: format chatml: the prompt of the newest round has 1002 tokens, the limit is 192, " +
			"which leaves room for the answer in the context: shorten it, or ask for a longer one with --context"},
		{&pumice.CacheError{Bytes: 1 << 20, Needed: 2 << 20, Context: 100},
			"pumice: model: a KV cache of 1.0 MiB is too small: one sequence of 100 tokens takes 2.0 MiB: ask for more with --kv-memory, or for less with --context"},
		{fmt.Errorf("model: layers 0 to 3: %w", &pumice.FitError{Device: "gpu", Needed: 3 << 30, Available: 2 << 30, Limit: "memory.max of x"}),
			"pumice: model: layers 0 to 3: model: needs 3.0 GiB on gpu, which has 2.0 GiB available by memory.max of x; no smaller type or context would fit"},
		{&pumice.ModelError{Model: "smollm2", Msg: "x.gguf is not there", Hub: true},
			"pumice: model \"smollm2\": x.gguf is not there: fetch it with `pumice pull smollm2`"},
		{&pumice.ModelError{Model: "x", Msg: "no such file"}, `pumice: model "x": no such file`},
		{&chat.NoFormatError{Family: "llama"}, "pumice: chat: the model of family \"llama\" has no chat template and may be no chat model: " +
			"choose a format with --chat-template, a Jinja file or one of " + strings.Join(chat.Names(), ", ")},
		{fmt.Errorf("first\nsecond"), "pumice: first; second"},
	} {
		if got := line(c.err); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
