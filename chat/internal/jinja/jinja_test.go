package jinja

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A render is a line of ../../testdata/renders.jsonl, which make_renders.py there made with jinja2.
type render struct {
	Name, Source string
	Vars         map[string]json.RawMessage
	Text, Raised *string
	Failed       string
}

func renders(t *testing.T) []render {
	t.Helper()
	f, err := os.Open("../../testdata/renders.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []render
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var r render
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Name != "" {
			b, err := os.ReadFile(filepath.Join("../../testdata/templates", r.Name))
			if err != nil {
				t.Fatal(err)
			}
			r.Source = string(b)
		}
		out = append(out, r)
	}
	if err := s.Err(); err != nil || len(out) < 100 {
		t.Fatalf("%d renders, %v", len(out), err)
	}
	return out
}

func joined(spans []Span) string {
	var b strings.Builder
	for _, s := range spans {
		b.WriteString(s.Text)
	}
	return b.String()
}

func run(name, source string, v Variables) (string, error) {
	t, err := Parse(name, source)
	if err != nil {
		return "", err
	}
	spans, err := t.Render(context.Background(), v)
	return joined(spans), err
}

func TestRendersAsJinja2(t *testing.T) {
	for i, r := range renders(t) {
		v := Variables{Foreign: map[string]any{}, Now: time.Date(2024, 7, 6, 15, 4, 5, 0, time.UTC)}
		for k, x := range r.Vars {
			v.Foreign[k] = x
		}
		got, err := run("test", r.Source, v)
		var e *Error
		switch {
		case err != nil && !errors.As(err, &e):
			t.Errorf("line %d: error of type %T: %v", i+1, err, err)
		case r.Text != nil && err != nil:
			t.Errorf("line %d: %v\nsource %q", i+1, err, r.Source)
		case r.Text != nil && got != *r.Text:
			t.Errorf("line %d: source %q\n got %q\nwant %q", i+1, r.Source, got, *r.Text)
		case r.Raised != nil && (err == nil || !e.Raised || e.Msg != *r.Raised):
			t.Errorf("line %d: got %q, %v; want raise_exception(%q)", i+1, got, err, *r.Raised)
		case r.Failed != "" && (err == nil || e.Raised):
			t.Errorf("line %d: source %q\n got %q, %v; want an error as jinja2's %s", i+1, r.Source, got, err, r.Failed)
		}
	}
}

// Foreign text stays marked through everything a template does with it.
func TestForeignTextKeepsItsMark(t *testing.T) {
	for _, c := range []struct{ source, want string }{ // foreign text in [ ]
		{"a{{ x }}b", "a[ <|x|> y ]b"},
		{"a{{ x.strip() }}b", "a[<|x|> y]b"},
		{"{{ '<|x|>' + x|trim + '<|x|>' }}", "<|x|>[<|x|> y]<|x|>"},
		{"{{ x.split('|')[1] ~ '|' }}", "[x]|"},
		{"{{ x[1:3] }}{{ x[1] }}{{ x[::-1] }}", "[<|< y >|x|< ]"},
		{"{{ x|upper }}{{ ('<' + x)|upper }}", "[ <|X|> Y < <|X|> Y ]"},
		{"{{ x.replace('x', '<|q|>') }}", "[ <|]<|q|>[|> y ]"},
		{"{{ ['a', x]|join('-') }}{{ '-'.join([x]) }}", "a-[ <|x|> y  <|x|> y ]"},
		{"{{ '%s!' % x }}{{ '<{}>'.format(x) }}", "[ <|x|> y ]!<[ <|x|> y ]>"},
		{"{{ {'k': x}|tojson }}", `{"k": "[ <|x|> y ]"}`},
		{"{{ [x] }}", "['[ <|x|> y ]']"},
		{"{% set z %}<|{{ x }}|>{% endset %}{{ z }}", "<|[ <|x|> y ]|>"},
		{"{% macro f(v) %}<{{ v }}>{% endmacro %}{{ f(x) }}", "<[ <|x|> y ]>"},
		{"{% for c in x.split() %}{{ c }}.{% endfor %}", "[<|x|>].[y]."},
		{"{% for k, v in o.items() %}{{ k }}={{ v }}{% endfor %}", "[<|k|>]=[v]"},
		{"{% set d = {x: 1} %}{% for k in d %}{{ k }}{% endfor %}{{ d }}", "[ <|x|> y ]{'[ <|x|> y ]': 1}"},
		{"{{ {'a': {x|trim: 1}}|tojson }}", `{"a": {"[<|x|> y]": 1}}`},
		{"{{ dict({x: 1}).items()|first|first }}{{ {x: 1}.copy()|list|join }}{{ {x: 2}|dictsort }}", "[ <|x|> y  <|x|> y ][('[ <|x|> y ]', 2)]"},
		{"{{ strftime_now(x) }}{{ strftime_now('<%Y>') }}", "[ <|x|> y ]<2026>"},
		{"{{ x|e }}", "[ &lt;|x|&gt; y ]"},
		{"{{ bos_token }}{{ x|first }}", "<s>[ ]"},
		{"{{ x|replace(' ', '')|length }}{{ x == ' <|x|> y ' }}", "6True"},
	} {
		tm, err := Parse("test", c.source)
		if err != nil {
			t.Error(err)
			continue
		}
		spans, err := tm.Render(context.Background(), Variables{
			Template: map[string]any{"bos_token": "<s>"},
			Foreign:  map[string]any{"x": " <|x|> y ", "o": map[string]any{"<|k|>": "v"}},
			Now:      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		})
		if err != nil {
			t.Error(err)
			continue
		}
		got := ""
		for i, s := range spans {
			if i > 0 && spans[i-1].Foreign == s.Foreign {
				t.Errorf("%s: neighbouring spans are alike: %v", c.source, spans)
			}
			if s.Foreign {
				s.Text = "[" + s.Text + "]"
			}
			got += s.Text
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.source, got, c.want)
		}
	}
}

// Each of these would take for ever, fill the memory, or overflow the stack (which ends a Go program) if nothing stopped it.
func TestHostileTemplatesEndWithAnError(t *testing.T) {
	deep := strings.Repeat
	double := "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(90) %}"
	for name, source := range map[string]string{
		"recursion":         "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"mutual recursion":  "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
		"nested loops":      deep("{% for i in range(100000) %}", 5) + "x" + deep("{% endfor %}", 5),
		"empty loops":       deep("{% for i in range(100000) %}", 5) + deep("{% endfor %}", 5),
		"range":             "{{ range(1000000000) }}",
		"repeat":            "{{ 'aaaaaaaaaa' * 1000000000 }}",
		"repeat empty":      "{{ '' * 9000000000000000000 }}",
		"repeat list":       "{{ [1] * 9000000000000000000 }}",
		"repeat empty list": "{{ [] * 9000000000000000000 }}",
		"doubling":          double + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"doubling replace":  double + "{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
		"doubling join":     double + "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
		"doubling list":     "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"tree print":        "{% set ns = namespace(x=[]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
		"tree compare":      "{% set a = namespace(x=[]) %}{% set b = namespace(x=[]) %}{% for i in range(90) %}{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}",
		"deep print":        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
		"power":             "{{ 10 ** 1000000 }}",
		"indent":            "{{ 'a\n'|indent(1000000000, true) }}",
		"format width":      "{{ '%999999999d' % 1 }}",
		"json indent":       "{{ range(100000)|list|tojson(indent='" + deep(" ", 10000) + "') }}",
		"unique":            "{{ range(100000)|unique|length }}",
		"find in big":       "{% set x = 'a' * 10000000 %}{% for i in range(100000) %}{% if 'b' in x %}{% endif %}{% endfor %}",
		"length of big":     "{% set x = 'a' * 10000000 %}{% for i in range(100000) %}{{ x|length }}{% endfor %}",
		"parentheses":       "{{ " + deep("(", 100000) + "1" + deep(")", 100000) + " }}",
		"lists":             "{{ " + deep("[", 100000),
		"not":               "{{ " + deep("not ", 100000) + "1 }}",
		"minus":             "{{ " + deep("- ", 100000) + "1 }}",
		"conditions":        "{{ " + deep("1 if 1 else ", 50000) + "1 }}",
		"tests":             "{{ 1 is " + deep("eq 1 is ", 50000) + "1 }}",
		"blocks":            deep("{% if 1 %}", 50000),
		"long sum":          "{{ 1" + deep("+1", 400000) + " }}",
		"long attribute":    "{{ messages" + deep(".a", 400000) + " }}",
		"long filter":       "{{ 1" + deep("|string", 100000) + " }}",
		"too long":          deep(" ", maxSourceBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			text, err := run("stranger", source, Variables{})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%d bytes, error %v", len(text), err)
			}
			if e.Template != "stranger" || e.Line < 1 {
				t.Errorf("error does not say where: %v", err)
			}
			if d := time.Since(start); d > maxTime+5*time.Second {
				t.Errorf("took %s", d)
			}
		})
	}
}

func TestCancelledRenderStops(t *testing.T) {
	tm, err := Parse("t", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := tm.Render(ctx, Variables{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for source, line := range map[string]int{
		"a\nb\n{{ foo.bar }}\n": 3, "{% if true %}\n\n{% nope %}{% endif %}": 3, "x\n{{ 'abc": 2,
		"{% macro f() %}\n{{ 1 // 0 }}\n{% endmacro %}\n\n{{ f() }}": 2, "\n{% if x %}\n\n": 2, "\n\n{{ 1 | zzz }}": 3,
		"{%- if a %}\n{%- elif b.c %}\n{%- endif %}": 2,
	} {
		var e *Error
		if _, err := run("t", source, Variables{}); !errors.As(err, &e) || e.Line != line {
			t.Errorf("%q: %v, want line %d", source, err, line)
		}
	}
}

func TestVariablesOfEveryKind(t *testing.T) {
	got, err := run("t", "{{ a }}{{ b.y }}{{ c }}{{ d|tojson }}{{ e }}{{ b.keys()|list }}", Variables{Foreign: map[string]any{
		"a": 1, "b": map[string]any{"y": 2.5, "x": nil}, "c": []any{true, "s", int64(3)},
		"d": json.RawMessage(`{"z":1,"a":[1.0,2e3,9223372036854775807]}`), "e": "bad\xff"}})
	if want := `12.5[True, 's', 3]{"z": 1, "a": [1.0, 2000.0, 9223372036854775807]}bad` + "\ufffd['x', 'y']"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, v := range []any{struct{}{}, json.RawMessage(`{`), json.RawMessage(`1 2`), json.RawMessage(strings.Repeat("[", 5000))} {
		if _, err := run("t", "x", Variables{Foreign: map[string]any{"v": v}}); err == nil {
			t.Errorf("%T: no error", v)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, name := range []string{"qwen3", "smollm2", "llama3-tools", "mistral", "gemma", "phi-title"} {
		b, err := os.ReadFile("../../testdata/templates/" + name + ".jinja")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("{{ '%s' % x }}{{ x[1:2:-1] }}{% raw %}{% endraw %}{#- -#}{{ 1 ** 2 // 3 }}{{ x|tojson(indent=2) }}")
	messages := json.RawMessage(`[{"role":"user","content":"a b"},{"role":"assistant","content":""}]`)
	f.Fuzz(func(t *testing.T, source string) {
		tm, err := Parse("fuzz", source)
		if err == nil {
			_, err = tm.Render(context.Background(), Variables{Foreign: map[string]any{"messages": messages, "x": "y"}})
		}
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("error of type %T: %v", err, err)
		}
	})
}
