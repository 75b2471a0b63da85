package tokenizer

// behavior says what a pre-tokenizer does with the delimiters that it splits on.
type behavior uint8

const (
	removed            behavior = iota // dropped
	isolated                           // each is a pre-token
	mergedWithPrevious                 // joined to the pre-token before
	mergedWithNext                     // joined to the pre-token after
	contiguous                         // adjacent delimiters are one pre-token
)

var behaviors = map[string]behavior{
	"Removed": removed, "Isolated": isolated, "MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext": mergedWithNext, "Contiguous": contiguous,
	// some exporters write this spelling; they read both
	"removed": removed, "isolated": isolated, "merged_with_previous": mergedWithPrevious,
	"merged_with_next": mergedWithNext, "contiguous": contiguous,
}

// splitter splits s into matches and the text between them, which its
// caller adds in order, and emits pre-tokens by the behavior.
type splitter struct {
	s       []byte
	first   bool
	how     behavior
	invert  bool
	emit    func(s []byte, first bool)
	start   int  // start of the pending pre-token
	end     int  // end of the pending pre-token and of the text added so far
	pending bool // there is a pending pre-token
	match   bool // the text added last was a delimiter
}

func (p *splitter) flush() {
	if p.pending && p.end > p.start {
		p.emit(p.s[p.start:p.end], p.first && p.start == 0)
	}
	p.pending = false
}

// add adds the text from p.end to end.
func (p *splitter) add(end int, match bool) {
	match = match != p.invert
	begin := p.end
	keep := false // the text joins the pending pre-token
	switch p.how {
	case contiguous:
		keep = p.pending && match == p.match
	case mergedWithPrevious:
		keep = p.pending && match && !p.match
	case mergedWithNext:
		keep = p.pending && !match && p.match
	}
	if !keep {
		p.flush()
		p.start = begin
		p.pending = p.how != removed || !match
	}
	p.end = end
	p.match = match
}

// finish adds the rest of s, if any, as text that does not match, and emits the pending pre-token.
func (p *splitter) finish() {
	if p.end < len(p.s) {
		p.add(len(p.s), false)
	}
	p.flush()
}

// found adds the match s[start:end] and the text before it.
func (p *splitter) found(start, end int) {
	if start > p.end {
		p.add(start, false)
	}
	p.add(end, true)
}
