// Package markdown shows Markdown on a terminal while it is being written: emphasis, headings, lists, quotations, tables,
// highlighted code, and formulas as far as Unicode has characters for them. A Stream takes an answer in pieces and says which
// rows are final and which may still change.
//
// The package does not decide what a terminal may be shown. Every text passes Options.Visible after it was decoded, character
// references included, so that no document can hold a control sequence.
package markdown

import (
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
)

// Options say how text is shown.
type Options struct {
	Plain   bool                // as it is written, but broken into rows at words
	Colour  bool                // in colours besides bold, italic and the like
	Dim     bool                // as less important
	Visible func(string) string // what is shown of a text
}

// A Stream shows a text that arrives in pieces.
type Stream struct {
	o       Options
	pending string // what was written since the last final row's block
	begun   bool   // a block is final: the next has an empty row before it

	// What is final of pending.
	rows, width int // rows of so many columns
	shown       int // visible characters in them
}

// NewStream returns a Stream of an empty text.
func NewStream(o Options) *Stream { return &Stream{o: o} }

// Push adds a piece of the text, whole characters.
func (s *Stream) Push(text string) {
	s.pending = strings.ReplaceAll(s.pending+text, "\r\n", "\n")
}

// Rows returns the rows of at most width columns that have become final, and those that haven't, of which there are at most
// most: further ones become final although what follows might still change how they look.
func (s *Stream) Rows(width, most int) (final, open []string) {
	for {
		at := s.boundary()
		if at < 0 {
			break
		}
		final = append(final, s.take(width, at)...)
	}
	rows := s.skip(s.block(s.pending, width), width)
	n := max(0, len(rows)-most)
	for _, row := range rows[:n] {
		s.rows, s.width, s.shown = s.rows+1, width, s.shown+visibleCharacters(row.text())
		final = append(final, row.render(s.o.Colour))
	}
	for _, row := range rows[n:] {
		open = append(open, row.render(s.o.Colour))
	}
	return final, open
}

// End returns the rows that remain. The text is complete.
func (s *Stream) End(width int) []string {
	final, _ := s.Rows(width, 0)
	s.pending = ""
	return final
}

// take returns the rows of the first at bytes, which end a block.
func (s *Stream) take(width, at int) []string {
	rows := s.skip(s.block(s.pending[:at], width), width)
	if strings.TrimSpace(s.pending[:at]) != "" {
		s.begun = true
	}
	s.pending, s.rows, s.shown = s.pending[at:], 0, 0
	out := make([]string, len(rows))
	for i, row := range rows {
		out[i] = row.render(s.o.Colour)
	}
	return out
}

// skip leaves out the rows that are final already; if the width has changed since, those that have the same characters.
func (s *Stream) skip(rows []line, width int) []line {
	if s.rows == 0 || width == s.width {
		return rows[min(s.rows, len(rows)):]
	}
	left := s.shown
	for i, row := range rows {
		if left -= visibleCharacters(row.text()); left < 0 {
			s.rows, s.width = i, width
			return rows[i:]
		}
	}
	return nil
}

// visibleCharacters counts characters besides spaces and the lines of tables.
func visibleCharacters(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) && !(r >= '─' && r <= '╿') {
			n++
		}
	}
	return n
}

// boundary returns where the first block of pending ends for certain, -1 if it may go on: behind an empty line outside of code,
// after which a line begins that is not indented. Without Markdown each line is a block.
func (s *Stream) boundary() int {
	if s.o.Plain {
		if end := strings.IndexByte(s.pending, '\n'); end >= 0 {
			return end + 1
		}
		return -1
	}
	fence := ""
	empty := false
	for at := 0; at < len(s.pending); {
		end := strings.IndexByte(s.pending[at:], '\n')
		text := s.pending[at:]
		if end >= 0 {
			text = text[:end]
		}
		trimmed := strings.TrimLeft(text, " ")
		switch {
		case fence != "":
			if closes(trimmed, fence) && end >= 0 {
				fence = ""
			}
		case strings.TrimSpace(text) == "":
			empty = at > 0
		case empty && text[0] != ' ' && text[0] != '\t':
			return at
		default:
			empty = false
			fence = fenceOf(trimmed)
		}
		if end < 0 {
			break
		}
		at += end + 1
	}
	return -1
}

// fenceOf returns the fence that a line of code blocks begins with, "" if none.
func fenceOf(text string) string {
	if formulas := `\[`; strings.HasPrefix(text, formulas) && !strings.Contains(text, `\]`) {
		return `\]`
	}
	if strings.HasPrefix(text, "$$") && !strings.Contains(text[2:], "$$") {
		return "$$"
	}
	for _, c := range []string{"`", "~"} {
		if n := len(text) - len(strings.TrimLeft(text, c)); n >= 3 {
			return strings.Repeat(c, n)
		}
	}
	return ""
}

// closes reports whether a line ends the block that a fence began.
func closes(text, fence string) bool {
	if c := fence[:1]; c == "`" || c == "~" {
		return strings.HasPrefix(text, fence) && strings.Trim(text, c+" \t\n") == ""
	}
	return strings.Contains(text, fence)
}

// block lays out a whole block or a beginning of one.
func (s *Stream) block(source string, width int) []line {
	if s.o.Plain {
		text := s.o.Visible(strings.TrimSuffix(source, "\n"))
		if source == "" {
			return nil
		}
		return wrap(line{{text, style{dim: s.o.Dim}}}, width)
	}
	source, formulas := withFormulas(source)
	d := document{source: []byte(source), formulas: formulas, visible: s.o.Visible, base: style{dim: s.o.Dim}}
	rows := d.blocks(parser.Parser().Parse(textReader(d.source)), width)
	if s.begun && len(rows) > 0 {
		rows = append([]line{nil}, rows...)
	}
	return rows
}

var parser = goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.TaskList))

// A marked formula is replaced in the source of a document by its number between these, because Markdown would take
// underscores and backslashes in it for its own.
const (
	formulaBegins = "\ue000"
	formulaEnds   = "\ue001"
)

// withFormulas replaces the formulas of a source by marks, and returns what they stand for.
func withFormulas(source string) (string, []string) {
	var out strings.Builder
	var formulas []string
	fence := ""
	for at := 0; at < len(source); {
		lineEnd := at + strings.IndexByte(source[at:], '\n') + 1
		if lineEnd == at {
			lineEnd = len(source)
		}
		if at == 0 || source[at-1] == '\n' {
			trimmed := strings.TrimLeft(source[at:lineEnd], " ")
			switch opens := fenceOf(trimmed); {
			case fence != "" && closes(trimmed, fence):
				fence = ""
				out.WriteString(source[at:lineEnd])
				at = lineEnd
				continue
			case fence == "" && (strings.HasPrefix(opens, "`") || strings.HasPrefix(opens, "~")):
				fence = opens
			}
			if fence != "" {
				out.WriteString(source[at:lineEnd])
				at = lineEnd
				continue
			}
		}
		rest := source[at:]
		if rest[0] == '`' { // code in a line
			n := len(rest) - len(strings.TrimLeft(rest, "`"))
			end := strings.Index(rest[n:], rest[:n])
			if end < 0 {
				end = 0
			} else {
				end += n
			}
			out.WriteString(rest[:n+end])
			at += n + end
			continue
		}
		if body, n := formulaIn(rest); n > 0 {
			out.WriteString(formulaBegins + string(rune('\ue100'+len(formulas))) + formulaEnds)
			text, ok := formula(body)
			if !ok {
				text = rest[:n]
			}
			if formulas = append(formulas, text); len(formulas) == maxFormulas {
				out.WriteString(rest[n:])
				break
			}
			at += n
			continue
		}
		n := 1
		if rest[0] == '\\' && len(rest) > 1 {
			n = 2
		}
		out.WriteString(rest[:n])
		at += n
	}
	return out.String(), formulas
}

// maxFormulas is how many private characters number formulas.
const maxFormulas = 0x1000

// formulaIn returns the formula that a text begins with, and the length of it with its marks; 0: none. A $ only begins one if
// it could not be a sum of money: as in pandoc, no space stands inside the marks, and no digit behind them.
func formulaIn(text string) (body string, n int) {
	for _, m := range []struct{ begin, end string }{{"$$", "$$"}, {`\[`, `\]`}, {`\(`, `\)`}} {
		if rest, ok := strings.CutPrefix(text, m.begin); ok {
			if body, _, closed := strings.Cut(rest, m.end); closed && strings.TrimSpace(body) != "" && !strings.Contains(body, "\n\n") {
				return body, len(m.begin) + len(body) + len(m.end)
			}
			return "", 0
		}
	}
	rest, ok := strings.CutPrefix(text, "$")
	if !ok || rest == "" || strings.ContainsRune(" \t\n$", rune(rest[0])) {
		return "", 0
	}
	for i := range len(rest) {
		switch {
		case rest[i] == '\n':
			return "", 0
		case rest[i] == '$' && rest[i-1] != '\\':
			if rest[i-1] == ' ' || i+1 < len(rest) && rest[i+1] >= '0' && rest[i+1] <= '9' {
				return "", 0
			}
			return rest[:i], i + 2
		}
	}
	return "", 0
}
