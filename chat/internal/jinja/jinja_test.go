package jinja

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pumice/internal/bounded"
)

// A render is a line of ../../testdata/renders.jsonl, which make_renders.py made with jinja2.
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

func run(ctx context.Context, name, source string, v Variables) (string, error) {
	t, err := Parse(ctx, name, source)
	if err != nil {
		return "", err
	}
	spans, err := t.Render(ctx, v)
	return joined(spans), err
}

func TestRendersAsJinja2(t *testing.T) {
	for i, r := range renders(t) {
		v := Variables{Foreign: map[string]any{}, Now: time.Date(2024, 7, 6, 15, 4, 5, 0, time.UTC)}
		for k, x := range r.Vars {
			v.Foreign[k] = x
		}
		got, err := run(t.Context(), "test", r.Source, v)
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

// Foreign text stays marked as foreign through every operation of a template.
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
		tm, err := Parse(t.Context(), "test", c.source)
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

// hostile returns templates of about n bytes each that, without limits, would take for ever, fill the memory, or
// overflow the stack (which ends a Go program).
func hostile(n int) map[string]string {
	many := func(s string) string { return strings.Repeat(s, n/len(s)+1) }
	nested := func(open, close string) string { return many(open) + many(close) }
	double := "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(90) %}"
	big := "{% set x = 'a' * 5000000 %}{% for i in range(100000) %}"
	return map[string]string{
		// Loops and recursion.
		"recursion":         "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"mutual recursion":  "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
		"default recursion": "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
		"branching macros":  "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
		"nested loops":      strings.Repeat("{% for i in range(100000) %}", 5) + "x" + strings.Repeat("{% endfor %}", 5),
		"empty loops":       strings.Repeat("{% for i in range(100000) %}", 5) + strings.Repeat("{% endfor %}", 5),
		"filtered loops":    strings.Repeat("{% for i in range(100000) if i < 0 %}{% endfor %}", 100),
		"many variables":    "{% for i in range(1000) %}" + many("{% set a = 1 %}") + "{% endfor %}",
		"scopes kept": "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% macro m() %}{% endmacro %}" +
			"{% set ns.l = [ns.l, m] %}{% endfor %}",
		// Values that grow.
		"range":             "{{ range(1000000000) }}",
		"repeat":            "{{ 'aaaaaaaaaa' * 1000000000 }}",
		"repeat empty":      "{{ '' * 9000000000000000000 }}",
		"repeat list":       "{{ [1] * 9000000000000000000 }}",
		"repeat empty list": "{{ [] * 9000000000000000000 }}",
		"doubling":          double + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"doubling tilde":    double + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
		"doubling replace":  double + "{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
		"doubling join":     double + "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
		"doubling method":   double + "{% set ns.x = ns.x.join([ns.x, ns.x]) %}{% endfor %}",
		"doubling format":   double + "{% set ns.x = '{}{}'.format(ns.x, ns.x) %}{% endfor %}",
		"doubling percent":  double + "{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
		"doubling json":     double + "{% set ns.x = [ns.x, ns.x]|tojson %}{% endfor %}",
		"doubling string":   double + "{% set ns.x = [ns.x, ns.x]|string %}{% endfor %}",
		"doubling escape":   double + "{% set ns.x = ('&' ~ ns.x ~ ns.x)|e %}{% endfor %}",
		"doubling block":    double + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
		"doubling macro":    double + "{% macro m() %}{{ ns.x }}{{ ns.x }}{% endmacro %}{% set ns.x = m() %}{% endfor %}",
		"doubling filter":   double + "{% set ns.x %}{% filter replace('a', 'aa') %}{{ ns.x }}{% endfilter %}{% endset %}{% endfor %}",
		"doubling strftime": double + "{% set ns.x = strftime_now(ns.x ~ ns.x) %}{% endfor %}",
		"doubling list":     "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"doubling sum":      "{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x]|sum(start=[]) %}{% endfor %}",
		"tree print":        "{% set ns = namespace(x=[]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
		"tree json":         "{% set ns = namespace(x=[]) %}{% for i in range(90) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
		"tree compare": "{% set a = namespace(x=[]) %}{% set b = namespace(x=[]) %}{% for i in range(90) %}" +
			"{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ a.x == b.x }}",
		"tree sort": "{% set a = namespace(x=[]) %}{% set b = namespace(x=[]) %}{% for i in range(90) %}" +
			"{% set a.x = [a.x, a.x] %}{% set b.x = [b.x, b.x] %}{% endfor %}{{ [a.x, b.x]|sort }}",
		"deep print":   "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
		"power":        "{{ 10 ** 1000000 }}",
		"one ** big":   "{% for i in range(100000) %}{{ 2 ** 62 // 1 ** 9223372036854775807 }}{{ (-1) ** 9223372036854775807 }}{{ 1.5 ** 9223372036854775807 }}{% endfor %}{{ 1 // 0 }}",
		"indent":       "{{ 'a\n'|indent(1000000000, true) }}",
		"indent lines": "{{ ('a\n' * 100000)|indent(1000, true) }}",
		"format width": "{{ '%999999999d' % 1 }}",
		"format many":  "{{ ('%1000d' * 30000) % ((1,) * 30000) }}",
		"json indent":  "{{ range(100000)|list|tojson(indent='" + strings.Repeat(" ", 10000) + "') }}",
		"json commas":  "{{ range(100000)|list|tojson(separators=('" + strings.Repeat(" ", 10000) + "', ':')) }}",
		"strftime":     "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = ns.l + [strftime_now('%c' * 100000)] %}{% endfor %}",
		// Work on long values with short results.
		"find in big":     big + "{% if 'b' in x %}{% endif %}{% endfor %}",
		"length of big":   big + "{{ x|length }}{% endfor %}",
		"index of big":    big + "{{ x[-1] }}{% endfor %}",
		"slice of big":    big + "{% if x[-2:-1] %}{% endif %}{% endfor %}",
		"key of big":      "{% set d = {} %}" + big + "{% if x in d %}{% endif %}{{ d[x] }}{{ d.get(x) }}{% endfor %}",
		"prefix of big":   "{% set y = 'a' * 5000000 ~ 'b' %}" + big + "{% if y.startswith((x, x, x, x)) %}{% endif %}{% endfor %}",
		"compare big":     "{% set y = 'a' * 4999999 ~ 'b' %}" + big + "{% if x == y or x > y %}{% endif %}{% endfor %}",
		"strip big":       big + "{% if x.strip('b') %}{% endif %}{% endfor %}",
		"attribute path":  big + "{% if [1]|map(attribute=x)|list %}{% endif %}{% endfor %}",
		"extremes of big": "{% set x = ['a' * 1000000] * 20 %}{% for i in range(100000) %}{% if x|max %}{% endif %}{% endfor %}",
		"unique of lists": "{% set ns = namespace(l=[]) %}{% for i in range(5000) %}{% set ns.l = ns.l + [[i]] %}{% endfor %}{{ ns.l|unique|length }}{{ range(10 ** 9) }}",
		"long argument":   "{% macro m(a) %}{% endmacro %}" + big + "{{ m(x) }}{% if x is string and x|trim %}{% endif %}{% endfor %}",
		// Sources.
		"parentheses":      "{{ " + nested("(", ")") + " }}",
		"lists":            "{{ " + many("["),
		"dicts":            "{{ " + many("{1:"),
		"subscripts":       "{{ " + many("a["),
		"calls in calls":   "{{ " + many("a("),
		"not":              "{{ " + many("not ") + "1 }}",
		"minus":            "{{ " + many("- ") + "1 }}",
		"conditions":       "{{ " + many("1 if 1 else ") + "1 }}",
		"tests":            "{{ 1 is " + many("eq 1 is ") + "1 }}",
		"blocks":           many("{% if 1 %}"),
		"macros":           many("{% macro f() %}"),
		"block sets":       many("{% set a %}"),
		"long sum":         "{{ 1" + many("+1") + " }}",
		"long power":       "{{ 1" + many("**1") + " }}",
		"long attribute":   "{{ messages" + many(".a") + " }}",
		"long call":        "{{ messages" + many("()") + " }}",
		"long filter":      "{{ 1" + many("|e") + " }}",
		"long test":        "{{ 1" + many(" is eq 1") + " }}",
		"dotted filter":    "{{ 1|a" + many(".a") + " }}",
		"dotted test":      "{{ 1 is a" + many(".a") + " }}",
		"long name":        "{% for i in range(100000) %}{{ " + many("a") + " }}{% endfor %}",
		"many arguments":   "{{ ''.format(" + many("a=1,") + ") }}",
		"many parameters":  "{% macro f(" + many("a,") + ") %}{% endmacro %}",
		"unclosed raw":     "{% raw %}" + many("{%"),
		"raw in lines":     "{% raw %}" + many("\n {%"),
		"raw ends":         "{% raw %}" + many("{% endraw "),
		"raw spaces":       "{% raw %}{%" + many(" "),
		"unclosed string":  "{{ '" + many("a"),
		"unclosed comment": many("{#"),
		"unclosed tag":     many("{{ "),
		"escapes":          "{{ '" + many("\\x"),
		"too long":         strings.Repeat(" ", maxSourceBytes+1),
	}
}

func TestHostileTemplatesEndWithAnError(t *testing.T) {
	for name, source := range hostile(200_000) {
		t.Run(name, func(t *testing.T) {
			bounded.Run(t, len(source), func(ctx context.Context) {
				text, err := run(ctx, "stranger", source, Variables{})
				var e *Error
				if !errors.As(err, &e) {
					t.Errorf("%d bytes, error %v", len(text), err)
				} else if e.Template != "stranger" || e.Line < 1 || len(err.Error()) > 1000 {
					t.Errorf("error does not name the line, or is long: %.2000v", err)
				}
			})
		})
	}
}

// Sources that are large but harmless, or not recognisably harmful.
func TestLargeTemplatesTakeLinearTime(t *testing.T) {
	many := func(s string) string { return strings.Repeat(s, maxSourceBytes/4/len(s)) }
	for name, source := range map[string]string{
		"text":             many("a"),
		"braces":           many("{ "),
		"lines":            many(" \n"),
		"comments":         many("{##}"),
		"comments, lines":  many("{# a\n #}\n "),
		"empty blocks":     many("{%if a%}{%endif%}"),
		"outputs":          many("{{a}}"),
		"adjacent strings": "{{ " + many("''") + " }}",
		"filled strings":   "{{ " + many("'a'") + " }}",
		"list":             "{{ [" + many("1,") + "]|length }}",
		"lists, not run":   "{% if 0 %}{{ [" + many("[],") + "] }}{% endif %}",
		"tuple, not run":   "{% if 0 %}{{ (" + many("a,") + ") }}{% endif %}",
		"negatives":        "{{ [" + many("-1,") + "]|length }}",
		"dict":             "{{ {" + many("1:a,") + "}|length }}",
		"concatenation":    "{{ " + many("a~") + "a }}",
		"comparison":       "{{ " + many("1==") + "1 }}",
		"conjunction":      "{% if 0 %}{{ " + many("1 and ") + "1 }}{% endif %}",
		"calls, not run":   "{% if 0 %}{{ a" + many("()") + " }}{% endif %}",
		"filters, not run": "{% if 0 %}{{ a" + many("|e") + " }}{% endif %}",
		"sum, not run":     "{% if 0 %}{{ 1" + many("+1") + " }}{% endif %}",
		"elif":             "{% if 0 %}" + many("{%elif 0%}") + "{% endif %}",
		"raw":              "{% raw %}" + many("{%") + "{% endraw %}",
		"raws":             many("{% raw %}{%{% endraw %}"),
		"targets":          "{% if 0 %}{% set " + many("a,") + "a = a %}{% endif %}",
	} {
		t.Run(name, func(t *testing.T) {
			bounded.Run(t, len(source), func(ctx context.Context) {
				if _, err := run(ctx, "large", source, Variables{}); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%.200v", err)
				}
			})
		})
	}
}

func TestCancelledRenderStops(t *testing.T) {
	done, stop := context.WithCancel(t.Context())
	stop()
	if _, err := Parse(done, "t", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("parsing: error %v", err)
	}
	tm, err := Parse(t.Context(), "t", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")
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
		if _, err := run(t.Context(), "t", source, Variables{}); !errors.As(err, &e) || e.Line != line {
			t.Errorf("%q: %v, want line %d", source, err, line)
		}
	}
}

func TestVariablesOfEveryKind(t *testing.T) {
	got, err := run(t.Context(), "t", "{{ a }}{{ b.y }}{{ c }}{{ d|tojson }}{{ e }}{{ b.keys()|list }}", Variables{Foreign: map[string]any{
		"a": 1, "b": map[string]any{"y": 2.5, "x": nil}, "c": []any{true, "s", int64(3)},
		"d": json.RawMessage(`{"z":1,"a":[1.0,2e3,9223372036854775807]}`), "e": "bad\xff"}})
	if want := `12.5[True, 's', 3]{"z": 1, "a": [1.0, 2000.0, 9223372036854775807]}bad` + "\ufffd['x', 'y']"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, v := range []any{struct{}{}, json.RawMessage(`{`), json.RawMessage(`1 2`), json.RawMessage(strings.Repeat("[", 5000))} {
		if _, err := run(t.Context(), "t", "x", Variables{Foreign: map[string]any{"v": v}}); err == nil {
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
	seeds := map[string]string{}
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing != nil && fuzzing.Value.String() != "" { // TestHostileTemplatesEndWithAnError has run them otherwise
		seeds = hostile(2000)
	}
	for _, source := range seeds {
		if len(source) < 1<<16 {
			f.Add(source)
		}
	}
	messages := json.RawMessage(`[{"role":"user","content":"a b"},{"role":"assistant","content":""}]`)
	f.Fuzz(func(t *testing.T, source string) {
		bounded.Run(t, len(source), func(ctx context.Context) {
			tm, err := Parse(ctx, "fuzz", source)
			if err == nil {
				_, err = tm.Render(ctx, Variables{Foreign: map[string]any{"messages": messages, "x": "y"}})
			}
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Errorf("error of type %T: %v", err, err)
			}
		})
	})
}
