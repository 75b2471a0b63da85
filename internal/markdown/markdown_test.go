package markdown

import (
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"
)

// visible is as strict as a terminal needs.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text)
}

// shown is a text without styles, as it looks at the end.
func shown(text string, width int, o Options) []string {
	o.Visible = visible
	s := NewStream(o)
	s.Push(text)
	var out []string
	for _, row := range s.End(width) {
		out = append(out, ansi.Strip(row))
	}
	return out
}

func TestMarkdown(t *testing.T) {
	for _, c := range []struct {
		name, source string
		want         []string
	}{
		{"paragraphs", "one two\nthree\n\nfour", []string{"one two three", "", "four"}},
		{"words are not broken", "hunting in the woods of the north", []string{"hunting in the woods", "of the north"}},
		{"a word that is too long", strings.Repeat("x", 25), []string{strings.Repeat("x", 20), "xxxxx"}},
		{"Chinese", "你好世界你好世界你好世界", []string{"你好世界你好世界你好", "世界"}},
		{"emphasis", "a **b** *c* ~~d~~ `e*f*`", []string{"a b c d e*f*"}},
		{"heading", "# Title\ntext", []string{"Title", "", "text"}},
		{"list", "- a\n- b long enough to wrap\n  - c\n\n3. x\n4. y", []string{"• a", "• b long enough to", "  wrap", "  • c", "", "3. x", "4. y"}},
		{"tasks", "- [x] a\n- [ ] b", []string{"• ☑ a", "• ☐ b"}},
		{"quotation", "> a\n> b\n>\n> c", []string{"│ a b", "│", "│ c"}},
		{"code", "```go\nfunc f() {\n\n\treturn\n}\n```", []string{"│ func f() {", "│", "│         return", "│ }"}},
		{"code without an end", "text\n\n```\na *b*", []string{"text", "", "│ a *b*"}},
		{"table", "| a | b |\n|---|--:|\n| 1 | 22 |\n| 333 | 4 |", []string{"a   │  b", "────┼───", "1   │ 22", "333 │  4"}},
		{"table that is too wide", "| a | b |\n|---|---|\n| one two three four | five six seven |",
			[]string{"a        │ b", "─────────┼──────────", "one two  │ five six", "three    │ seven", "four     │"}},
		{"link", "[pumice](https://e.org)", []string{"pumice (https://", "e.org)"}},
		{"rule", "a\n\n---\n\nb", []string{"a", "", strings.Repeat("─", 20), "", "b"}},
		{"HTML", "<b>x</b> &lt; &amp;", []string{"<b>x</b> < &"}},
		{"escapes", `\*a\* 1\. b`, []string{"*a* 1. b"}},
		{"formulas", `$a_1^2 + \alpha$ and \(x \leq y\)`, []string{"a₁² + α and x ≤ y"}},
		{"money", "from $5 to $6, or $7-$8", []string{"from $5 to $6, or", "$7-$8"}},
		{"no formula in code", "`$a_1$`\n\n```\n$a_1$\n```", []string{"$a_1$", "", "│ $a_1$"}},
		{"a formula of its own", "\\[\n\\frac{a+b}{2} = c\n\\]", []string{"(a+b)/2 = c"}},
		{"a formula without characters", `$\begin{matrix}a\end{matrix}$`, []string{`$\begin{matrix}`, `a\end{matrix}$`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := shown(c.source, 20, Options{})
			for i := range got {
				got[i] = strings.TrimRight(got[i], " ")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFormulas(t *testing.T) {
	for source, want := range map[string]string{
		`E = mc^2`:                         "E = mc²",
		`x_{i+1}`:                          "xᵢ₊₁",
		`\frac{1}{2}`:                      "1/2",
		`\frac{a+b}{c}`:                    "(a+b)/c",
		`\sqrt{2}`:                         "√2",
		`\sqrt[3]{x+1}`:                    "³√(x+1)",
		`\sum_{i=1}^{n} i`:                 "∑ᵢ₌₁ⁿ i",
		`\alpha\beta \to \infty`:           "αβ → ∞",
		`a \times b`:                       "a × b",
		`\vec{v} \in \mathbb{R}^3`:         "v⃗ ∈ ℝ³",
		`\sin\theta`:                       "sinθ",
		`\text{if } x \neq 0`:              "if x ≠ 0",
		`x^{q}`:                            "x^q",
		`\left( \frac{1}{n} \right)^2`:     "( 1/n )²",
		`\begin{cases} 1 \end{cases}`:      "",
		`\unknown`:                         "",
		`{a`:                               "",
		`a}`:                               "",
		`\frac{1}`:                         "",
		strings.Repeat("{", 100):           "",
		`a \\ b`:                           "",
		`\sqrt[3`:                          "",
		strings.Repeat(`\frac{1}{`, 30):    "",
		`100\%`:                            "100%",
		"\\":                               "",
		`\hat{x}`:                          "x̂",
		`\int_0^1 f(x)\,dx`:                "∫₀¹ f(x) dx",
		`\mathcal{L}`:                      "",
		`\lim_{n \to \infty} \log_2 n - 1`: "lim_(n → ∞) log₂ n − 1",
	} {
		got, ok := formula(source)
		if !ok && want != "" || ok && got != want {
			t.Errorf("%s: %q, %v; want %q", source, got, ok, want)
		}
	}
}

const article = "# A title\n\nSome *text* with `code`,\nand more text that has to be wrapped somewhere.\n\n- one\n- two\n\n  more of two\n- three\n\n" +
	"```python\ndef f(x):\n    # a comment\n    return \"y\"\n\nprint(f(1))\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\n" +
	"\\[\nx^2\n\\]\n\nThe **end**.\n"

// TestStreamingChangesNothing pushes a text in pieces: what was final stays, and the end is that of the whole text.
func TestStreamingChangesNothing(t *testing.T) {
	for _, o := range []Options{{Visible: visible}, {Visible: visible, Colour: true}, {Visible: visible, Plain: true}} {
		whole := NewStream(o)
		whole.Push(article)
		want := whole.End(30)
		for size := 1; size < 9; size++ {
			s := NewStream(o)
			var got []string
			for rest := article; rest != ""; {
				n := min(size, len(rest))
				s.Push(rest[:n])
				rest = rest[n:]
				final, open := s.Rows(30, 100)
				got = append(got, final...)
				if len(got)+len(open) > len(want)+2 {
					t.Errorf("%d rows are shown of %d", len(got)+len(open), len(want))
				}
			}
			got = append(got, s.End(30)...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v, %d bytes at a time (-want +got):\n%s", o, size, diff)
			}
		}
	}
}

// TestRowsThatHaveNoRoom has a terminal with few rows, which also becomes narrower and wider.
func TestRowsThatHaveNoRoom(t *testing.T) {
	var source strings.Builder
	for i := range 40 {
		fmt.Fprintf(&source, "- item %d\n", i)
	}
	for _, widths := range [][]int{{30}, {30, 12}, {12, 30}} {
		s := NewStream(Options{Visible: visible})
		var got []string
		for i, line := range strings.SplitAfter(source.String(), "\n") {
			s.Push(line)
			final, open := s.Rows(widths[i*len(widths)/41], 3)
			if got = append(got, final...); len(open) > 3 {
				t.Fatalf("%d rows", len(open))
			}
		}
		got = append(got, s.End(30)...)
		for i, row := range got {
			if want := fmt.Sprintf("• item %d", i); ansi.Strip(row) != want {
				t.Errorf("row %d is %q, want %q", i, row, want)
			}
		}
		if len(got) != 40 {
			t.Errorf("widths %v: %d rows", widths, len(got))
		}
	}
}

// TestNothingButStylesIsWritten has control characters in every place, as references too.
func TestNothingButStylesIsWritten(t *testing.T) {
	const evil = "\x1b]0;x\a&#27;[2J&#x9b;&#7;\x9b\u009b\r"
	source := evil + "\n\n# " + evil + "\n\n- " + evil + "\n\n> " + evil + "\n\n```" + evil + "\n" + evil + "\n```\n\n    " + evil + "\n\n[" + evil + "](<" + evil + "> \"" + evil + "\")\n\n" +
		"| " + evil + " |\n|---|\n| " + evil + " |\n\n`" + evil + "` **" + evil + "** $" + evil + "$ \\(" + evil + "\\) <b " + evil + "> <https://e" + evil + ">\n\n![" + evil + "](x)\n\n<div>\n" + evil + "\n"
	for _, o := range []Options{{}, {Plain: true}, {Colour: true}} {
		o.Visible = visible
		s := NewStream(o)
		s.Push(strings.ToValidUTF8(source, "?"))
		for _, row := range s.End(40) {
			for at, r := range ansi.Strip(styles.Replace(row)) {
				if unicode.IsControl(r) {
					t.Errorf("%q at byte %d of %q", r, at, row)
				}
			}
			if strings.Contains(styles.Replace(row), "\x1b") {
				t.Errorf("a sequence that is no style: %q", row)
			}
		}
	}
}

// styles removes the program's own sequences.
var styles = func() *strings.Replacer {
	var list []string
	for _, s := range []style{{}, {bold: true}, {dim: true}, {italic: true}, {underline: true}, {dim: true, italic: true}, {bold: true, underline: true}} {
		for _, colour := range []int{0, red, green, blue, magenta, cyan} {
			if s.colour = colour; s.codes(true) != "" {
				list = append(list, "\x1b["+s.codes(true)+"m", "")
			}
		}
	}
	return strings.NewReplacer(append(list, "\x1b[m", "")...)
}()

func TestNoColourKeepsOtherStyles(t *testing.T) {
	s := NewStream(Options{Visible: visible})
	s.Push("**a** `b`\n\n```go\nfunc f() {}\n```")
	text := strings.Join(s.End(40), "\n")
	if !strings.Contains(text, "\x1b[1ma\x1b[m") || strings.Contains(text, "\x1b[3") {
		t.Errorf("%q", text)
	}
	s = NewStream(Options{Visible: visible, Colour: true})
	s.Push("```go\nfunc f() {}\n```")
	if text := strings.Join(s.End(40), "\n"); !strings.Contains(text, "\x1b[35mfunc\x1b[m") {
		t.Errorf("%q", text)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(article, 20)
	f.Add("$a$ \\( ` ``` $$ \\[ \ue000\ue100\ue001", 3)
	f.Fuzz(func(t *testing.T, source string, width int) {
		source = strings.ToValidUTF8(source, "?")
		width = 1 + (width&0x7f+0x7f)%0x7f
		s := NewStream(Options{Visible: visible, Colour: true})
		for half := range 2 {
			s.Push(source[half*len(source)/2 : (half+1)*len(source)/2])
			s.Rows(width, 4)
		}
		s.End(width)
	})
}
