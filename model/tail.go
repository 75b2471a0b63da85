package model

import (
	"fmt"
	"strings"

	"pumice/pipeline"
)

// Rows says which tokens of an evaluation have a row of results.
type Rows int

const (
	NoRows   Rows = iota // none
	LastRows             // the last token of each sequence
	EveryRow             // every token
)

func (r Rows) String() string { return [...]string{"no rows", "last rows", "every row"}[r] }

// A Tail says what an evaluation leaves to be read. Its fields but Rows are independent of each other. The zero Tail
// leaves nothing: only the KV cache is written.
type Tail struct {
	Rows Rows // that have what Top, Margin, LogProbs, Logits and Hidden ask for

	Top    int  // how many of the largest logits, with their tokens, 0 to pipeline.TopLogits; 1 is the token alone
	Margin bool // the token with the largest logit, and how far that leads
	Logits bool // all logits

	// LogProbs is, with EveryRow, the log-probability of the token that follows. With LastRows, and with Top, it is the
	// logarithm of the sum of the exponentials of all logits, by which a logit becomes a log-probability.
	LogProbs bool

	// Adjusted changes the logits of last rows by Span.Adjust before the largest are found. Logits and LogProbs are of those
	// before.
	Adjusted bool

	Hidden bool // the residual stream after the final norm

	Stream bool // the residual stream of every token after the last layer: what the next device of a Split continues
}

// String names what is left, as in "last rows: top 64, hidden".
func (t Tail) String() string {
	var rows, parts []string
	if t.Top > 0 {
		rows = append(rows, fmt.Sprint("top ", t.Top))
	}
	for _, x := range []struct {
		asked bool
		name  string
	}{{t.Margin, "margin"}, {t.LogProbs, "log-probabilities"}, {t.Logits, "logits"}, {t.Adjusted, "adjusted"}, {t.Hidden, "hidden"}} {
		if x.asked {
			rows = append(rows, x.name)
		}
	}
	if t.Rows != NoRows {
		parts = append(parts, t.Rows.String()+": "+strings.Join(rows, ", "))
	}
	if t.Stream {
		parts = append(parts, "stream")
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}

// check says what is wrong with t.
func (t Tail) check() error {
	switch asked := t.head() || t.Hidden; {
	case t.Rows < NoRows || t.Rows > EveryRow:
		return fmt.Errorf("model: rows %d of an evaluation", int(t.Rows))
	case t.Top < 0 || t.Top > pipeline.TopLogits:
		return fmt.Errorf("model: the %d largest logits; 0 to %d are possible", t.Top, pipeline.TopLogits)
	case asked != (t.Rows != NoRows):
		return fmt.Errorf("model: %s, and results asked of them: %t", t.Rows, asked)
	case t.Adjusted && (t.Rows != LastRows || t.Top == 0):
		return fmt.Errorf("model: %s are adjusted; the largest logits of last rows can be", t)
	}
	return nil
}

// head reports whether t needs logits.
func (t Tail) head() bool { return t.pairs() > 0 || t.Logits || t.LogProbs }

// pairs is how many of the largest logits of a row are read with their tokens.
func (t Tail) pairs() int {
	if t.Margin {
		return max(t.Top, 2)
	}
	return t.Top
}

// sums reports whether LogProbs leaves sums.
func (t Tail) sums() bool { return t.LogProbs && (t.Rows == LastRows || t.Top > 0) }

// capped reports whether t has or adjusts values of logits that a soft cap changes. It does not change which ones are the largest,
// and a margin alone is that before the cap.
func (t Tail) capped() bool { return t.Logits || t.LogProbs || t.Top > 1 || t.Adjusted }

// before is what the chunks of a longer evaluation leave before its last one.
func (t Tail) before() Tail {
	if t.Rows == EveryRow {
		return t
	}
	return Tail{Stream: t.Stream}
}

// rows is how many rows of results a step leaves.
func (t Tail) rows(s pipeline.Step) int {
	switch t.Rows {
	case LastRows:
		return s.Rows()
	case EveryRow:
		return s.Len()
	}
	return 0
}

// position is the place of the token that row i of a step belongs to.
func (t Tail) position(s pipeline.Step, i int) int {
	for _, q := range s.Sequences {
		if t.Rows == EveryRow {
			if i < len(q.Tokens) {
				return q.Position + i
			}
			i -= len(q.Tokens)
			continue
		}
		if q.Endings == nil && i == 0 {
			return q.Position + len(q.Tokens) - 1
		}
		if i < len(q.Endings) {
			at := q.Position - 1
			for _, n := range q.Endings[:i+1] {
				at += n
			}
			return at
		}
		i -= max(1, len(q.Endings))
	}
	return 0
}
