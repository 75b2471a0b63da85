package jinja

import (
	"context"
	"strconv"
	"strings"
	"testing"
)

// TestErrorsArePrintable looks for raw control characters in errors that quote a template, which is untrusted text.
func TestErrorsArePrintable(t *testing.T) {
	t.Parallel()
	const bad = "\x1b]0;x\a\u009b\u202e\x7f"
	for _, source := range []string{
		`{{ raise_exception("` + bad + `\r\n") }}`,
		`{{ x["` + bad + `"].y }}`,
		`{{ [1] | map("` + bad + `") | list }}`,
		`{{ [1] | select("` + bad + `") | list }}`,
		`{{ "{` + bad + `}".format(1) }}`,
		`{{ "%` + bad + `" % 1 }}`,
		"{{ '\\x\u009b\u009b' }}",
		"{{ " + bad + " }}",
		`{{ "` + bad + `" ~ 1 "`,
		`{% for a in "` + bad + `" %}`,
	} {
		template, err := Parse(t.Context(), "t", source)
		if err == nil {
			_, err = template.Render(context.Background(), Variables{Foreign: map[string]any{"x": map[string]any{}}})
		}
		if err == nil {
			t.Errorf("%q: no error", source)
			continue
		}
		if i := strings.IndexFunc(err.Error(), func(r rune) bool { return !strconv.IsPrint(r) }); i >= 0 {
			t.Errorf("%q: byte %d of %q", source, i, err.Error())
		}
	}
}
