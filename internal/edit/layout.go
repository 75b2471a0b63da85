package edit

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

const tabStop = 8

// A Row is one row of the screen: a prefix, and the text between two byte indexes as it is shown.
type Row struct {
	Text     string
	From, To int
	columns  []column // where clusters begin
}

// A column is where on the screen a byte of the text is.
type column struct{ at, x, shown int }

// Rows lays the text out in rows of fewer than width columns. The first line begins with the prompt, others with more. It
// returns the index of the row that has the cursor, and how many bytes of that row stand before it.
func (b *Buffer) Rows(prompt, more string, width int) (rows []Row, row, before int) {
	prefix := prompt
	for from := 0; ; {
		end := b.lineEnd(from)
		rows = b.layOut(rows, prefix, from, end, max(2, width))
		if end == len(b.text) {
			break
		}
		from, prefix = end+1, more
	}
	for i, r := range rows {
		if r.From <= b.at {
			row = i
		}
	}
	_, before = rows[row].place(b.at)
	return rows, row, before
}

// layOut adds the rows of one line.
func (b *Buffer) layOut(rows []Row, prefix string, from, end, width int) []Row {
	var shown strings.Builder
	prefix = ansi.Truncate(prefix, max(0, width-3), "") // and beside it there is room for two columns
	shown.WriteString(prefix)
	r := Row{From: from}
	x := ansi.StringWidth(prefix)
	for at := from; at < end; {
		next := b.after(at)
		cluster := b.text[at:next]
		w := 1
		if len(cluster) > 1 {
			w = ansi.StringWidth(cluster)
		}
		if cluster == "\t" {
			w = min(tabStop-x%tabStop, max(1, width-1))
			cluster = strings.Repeat(" ", w)
		}
		if x+w >= width && at > r.From {
			r.Text, r.To = shown.String(), at
			rows = append(rows, r)
			r, x = Row{From: at}, 0
			shown.Reset()
			continue
		}
		r.columns = append(r.columns, column{at, x, shown.Len()})
		shown.WriteString(cluster)
		x, at = x+w, next
	}
	r.columns = append(r.columns, column{end, x, shown.Len()})
	r.Text, r.To = shown.String(), end
	return append(rows, r)
}

// place returns the column of a byte of the row's text, and how many bytes of the row stand before it.
func (r Row) place(at int) (x, before int) {
	for _, c := range r.columns {
		if c.at <= at {
			x, before = c.x, c.shown
		}
	}
	return x, before
}

// Vertical moves the cursor up or down by one row, and reports whether there was one. It stays in its column, as far as rows are
// long enough.
func (b *Buffer) Vertical(up bool, prompt, more string, width int) bool {
	rows, row, _ := b.Rows(prompt, more, width)
	to := row + 1
	if up {
		to = row - 1
	}
	if to < 0 || to >= len(rows) {
		return false
	}
	if b.goal == 0 {
		x, _ := rows[row].place(b.at)
		b.goal = x + 1
	}
	for _, c := range rows[to].columns {
		if c.x < b.goal || c.at == rows[to].From {
			b.at = c.at
		}
	}
	return true
}
