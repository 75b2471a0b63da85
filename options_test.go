package pumice

import (
	"errors"
	"testing"

	"pumice/model"
)

func TestAdaptersArePathsWithAScale(t *testing.T) {
	for text, want := range map[string]model.LoRA{
		"adapters/law":      {Path: "adapters/law", Scale: 1},
		"adapters/law:0.5":  {Path: "adapters/law", Scale: 0.5},
		"adapters/law:-1":   {Path: "adapters/law", Scale: -1},
		`C:\adapters\law`:   {Path: `C:\adapters\law`, Scale: 1},
		`C:\adapters\law:2`: {Path: `C:\adapters\law`, Scale: 2},
		"a:b":               {Path: "a:b", Scale: 1},
	} {
		if got, err := parseLoRA(text); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":2", "law:0", "law:NaN", "law:Inf"} {
		var option *OptionError
		if _, err := parseLoRA(text); !errors.As(err, &option) {
			t.Errorf("%q: %v, want an *OptionError", text, err)
		}
	}
}

func TestOptionsThatDoNotExist(t *testing.T) {
	for _, o := range []Options{{DType: "q3_z"}, {KVType: "q4_0"}, {DType: "i8"}, {Context: -1}} {
		var option *OptionError
		if _, err := Open(t.Context(), "testdata/fixtures/llama", o); !errors.As(err, &option) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
