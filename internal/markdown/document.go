package markdown

import (
	"fmt"
	"html"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/yuin/goldmark/ast"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

func textReader(source []byte) text.Reader { return text.NewReader(source) }

// A document is one block of a text, parsed.
type document struct {
	source   []byte
	formulas []string
	visible  func(string) string
	base     style
}

// blocks lays out the blocks below a node, with an empty row between two of them.
func (d *document) blocks(parent ast.Node, width int) []line {
	var rows []line
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		block := d.block(n, width)
		if len(rows) > 0 && len(block) > 0 && !isTight(parent) {
			rows = append(rows, nil)
		}
		rows = append(rows, block...)
	}
	return rows
}

// isTight reports whether no empty rows stand between the blocks below a node.
func isTight(n ast.Node) bool {
	if list, ok := n.(*ast.List); ok {
		return list.IsTight
	}
	if _, ok := n.(*ast.ListItem); ok {
		return isTight(n.Parent())
	}
	return false
}

func (d *document) block(n ast.Node, width int) []line {
	s := d.base
	switch n := n.(type) {
	case *ast.Heading:
		s.bold, s.underline = true, n.Level == 1
		if s.colour = magenta; n.Level > 2 {
			s.colour = 0
		}
		return wrap(d.inlines(n, s), width)
	case *ast.ThematicBreak:
		s.dim = true
		return []line{{{strings.Repeat("─", min(width, 40)), s}}}
	case *ast.Blockquote:
		bar := d.base
		bar.dim = true
		return indent(d.blocks(n, width-2), line{{"│ ", bar}}, line{{"│ ", bar}})
	case *ast.List:
		return d.list(n, width)
	case *ast.FencedCodeBlock:
		return d.code(string(n.Language(d.source)), d.lines(n), width)
	case *ast.CodeBlock:
		return d.code("", d.lines(n), width)
	case *extast.Table:
		return d.table(n, width)
	case *ast.HTMLBlock:
		text := d.lines(n)
		if n.HasClosure() {
			text += string(n.ClosureLine.Value(d.source))
		}
		return wrap(line{{d.text(strings.TrimRight(text, "\n")), s}}, width)
	case *ast.Paragraph, *ast.TextBlock:
		return wrap(d.inlines(n, s), width)
	}
	return d.blocks(n, width)
}

// lines returns the source of a block's lines.
func (d *document) lines(n ast.Node) string {
	var b strings.Builder
	for i := range n.Lines().Len() {
		segment := n.Lines().At(i)
		b.Write(segment.Value(d.source))
	}
	return b.String()
}

// text is what is shown of a text: formulas in the place of their marks.
func (d *document) text(text string) string {
	var b strings.Builder
	for {
		before, rest, marked := strings.Cut(text, formulaBegins)
		b.WriteString(before)
		if !marked {
			return d.visible(b.String())
		}
		number, after, ended := strings.Cut(rest, formulaEnds)
		i := -1
		if r := []rune(number); ended && len(r) == 1 {
			i = int(r[0] - '\ue100')
		}
		if i < 0 || i >= len(d.formulas) {
			b.WriteString(formulaBegins)
			text = rest
			continue
		}
		b.WriteString(d.formulas[i])
		text = after
	}
}

func indent(rows []line, first, rest line) []line {
	if len(rows) == 0 {
		return []line{first}
	}
	for i := range rows {
		prefix := rest
		if i == 0 {
			prefix = first
		}
		rows[i] = append(append(line{}, prefix...), rows[i]...)
	}
	return rows
}

func (d *document) list(n *ast.List, width int) []line {
	var rows []line
	number := n.Start
	mark := d.base
	mark.colour = cyan
	for item := n.FirstChild(); item != nil; item = item.NextSibling() {
		bullet := "• "
		if n.IsOrdered() {
			bullet = fmt.Sprintf("%d%c ", number, n.Marker)
			number++
		}
		w := ansi.StringWidth(bullet)
		if len(rows) > 0 && !n.IsTight {
			rows = append(rows, nil)
		}
		rows = append(rows, indent(d.blocks(item, width-w), line{{bullet, mark}}, line{{strings.Repeat(" ", w), d.base}})...)
	}
	return rows
}

// code lays out code, which is broken only where a line is too long.
func (d *document) code(language, source string, width int) []line {
	s := d.base
	s.dim = true
	bar := line{{"│ ", s}}
	var rows []line
	for _, spans := range highlight(language, d.visible(strings.TrimSuffix(source, "\n")), d.base) {
		for _, row := range breakAnywhere(spans, width-2) {
			rows = append(rows, append(append(line{}, bar...), row...))
		}
	}
	return rows
}

// breakAnywhere breaks spans at width columns and nowhere else.
func breakAnywhere(spans line, width int) []line {
	rows := []line{nil}
	x := 0
	for _, s := range spans {
		for rest := s.text; rest != ""; {
			cluster, w := ansi.FirstGraphemeCluster(rest, ansi.GraphemeWidth)
			rest = rest[len(cluster):]
			if cluster == "\t" {
				w = tabStop - x%tabStop
				cluster = strings.Repeat(" ", w)
			}
			if x+w > max(2, width) {
				rows, x = append(rows, nil), 0
			}
			rows[len(rows)-1] = rows[len(rows)-1].append(cluster, s.style)
			x += w
		}
	}
	return rows
}

// inlines returns what is in a paragraph.
func (d *document) inlines(parent ast.Node, s style) line {
	var spans line
	for n := parent.FirstChild(); n != nil; n = n.NextSibling() {
		switch n := n.(type) {
		case *ast.Text:
			spans = spans.append(d.text(decoded(n.Segment.Value(d.source), n.IsRaw())), s)
			switch {
			case n.HardLineBreak():
				spans = spans.append("\n", s)
			case n.SoftLineBreak():
				spans = spans.append(" ", s)
			}
		case *ast.String:
			spans = spans.append(d.text(string(n.Value)), s)
		case *ast.CodeSpan:
			code := s
			code.colour = cyan
			var b strings.Builder
			for c := n.FirstChild(); c != nil; c = c.NextSibling() {
				if t, ok := c.(*ast.Text); ok {
					b.Write(t.Segment.Value(d.source))
				}
			}
			text := strings.ReplaceAll(b.String(), "\n", " ")
			if code.colour == 0 || text == "" {
				text = "`" + text + "`"
			}
			spans = spans.append(d.text(text), code)
		case *ast.Emphasis:
			strong := s
			if n.Level == 1 {
				strong.italic = true
			} else {
				strong.bold = true
			}
			spans = append(spans, d.inlines(n, strong)...)
		case *extast.Strikethrough:
			struck := s
			struck.strike = true
			spans = append(spans, d.inlines(n, struck)...)
		case *extast.TaskCheckBox:
			box := "☐ "
			if n.IsChecked {
				box = "☑ "
			}
			spans = spans.append(box, s)
		case *ast.Link:
			spans = append(spans, d.link(d.inlines(n, underlined(s)), string(n.Destination), s)...)
		case *ast.Image:
			spans = append(spans, d.link(append(line{{"image: ", s}}, d.inlines(n, s)...), string(n.Destination), s)...)
		case *ast.AutoLink:
			spans = spans.append(d.text(string(n.URL(d.source))), underlined(s))
		case *ast.RawHTML:
			for i := range n.Segments.Len() {
				segment := n.Segments.At(i)
				spans = spans.append(d.text(string(segment.Value(d.source))), s)
			}
		default:
			spans = append(spans, d.inlines(n, s)...)
		}
	}
	return spans
}

func underlined(s style) style {
	s.underline, s.colour = true, blue
	return s
}

// link is the text of a link and where it leads, if that is something else: a reader should see both.
func (d *document) link(label line, destination string, s style) line {
	if label.text() == destination || destination == "" {
		return label
	}
	s.dim = true
	return append(label, span{" (" + d.text(destination) + ")", s})
}

// decoded is the text of a piece of source: without backslashes before punctuation, and with characters for their references.
func decoded(source []byte, raw bool) string {
	if raw {
		return string(source)
	}
	return html.UnescapeString(string(util.UnescapePunctuations(source)))
}

// table lays out a table. If it is too wide, the widest columns are made narrower and their cells get several rows.
func (d *document) table(n *extast.Table, width int) []line {
	var cells [][]line // of each row
	var columns int
	for row := n.FirstChild(); row != nil; row = row.NextSibling() {
		s := d.base
		_, s.bold = row.(*extast.TableHeader)
		var list []line
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			list = append(list, d.inlines(cell, s))
		}
		cells = append(cells, list)
		columns = max(columns, len(list))
	}
	widths := make([]int, columns)
	for _, row := range cells {
		for i, cell := range row {
			widths[i] = max(1, widths[i], cell.width())
		}
	}
	const between = 3
	for total := sum(widths) + between*(columns-1); total > width; total-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= 2 {
			break
		}
		widths[widest]--
	}
	bar := d.base
	bar.dim = true
	var rows []line
	for r, row := range cells {
		broken := make([][]line, columns)
		height := 1
		for i := range columns {
			if i < len(row) {
				broken[i] = wrap(row[i], widths[i])
				height = max(height, len(broken[i]))
			}
		}
		for y := range height {
			var out line
			for i := range columns {
				var cell line
				if y < len(broken[i]) {
					cell = broken[i][y]
				}
				left, right := padding(n.Alignments, i, widths[i]-cell.width())
				if i > 0 {
					out = out.append(" │ ", bar)
				}
				out = append(out.append(left, d.base), cell...)
				if i+1 < columns {
					out = out.append(right, d.base)
				}
			}
			rows = append(rows, out)
		}
		if r == 0 {
			parts := make([]string, columns)
			for i, w := range widths {
				parts[i] = strings.Repeat("─", w)
			}
			rows = append(rows, line{{strings.Join(parts, "─┼─"), bar}})
		}
	}
	return rows
}

// padding returns the spaces left and right of a cell.
func padding(alignments []extast.Alignment, column, n int) (left, right string) {
	n = max(0, n)
	before := 0
	if column < len(alignments) {
		switch alignments[column] {
		case extast.AlignRight:
			before = n
		case extast.AlignCenter:
			before = n / 2
		}
	}
	return strings.Repeat(" ", before), strings.Repeat(" ", n-before)
}

func sum(list []int) (total int) {
	for _, n := range list {
		total += n
	}
	return total
}
