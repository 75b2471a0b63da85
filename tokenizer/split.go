package tokenizer

// behavior says what becomes of the delimiters that a pre-tokenizer splits on.
type behavior uint8

const (
	removed            behavior = iota // dropped
	isolated                           // a piece each
	mergedWithPrevious                 // joined to the piece before
	mergedWithNext                     // joined to the piece after
	contiguous                         // a run of delimiters is one piece
)

var behaviors = map[string]behavior{
	"Removed": removed, "Isolated": isolated, "MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext": mergedWithNext, "Contiguous": contiguous,
	// written so by some exporters, which read both
	"removed": removed, "isolated": isolated, "merged_with_previous": mergedWithPrevious,
	"merged_with_next": mergedWithNext, "contiguous": contiguous,
}

// splitter cuts s into stretches that match and stretches between them, which its
// caller adds in order, and emits pieces as the behavior says.
type splitter struct {
	s       []byte
	first   bool
	how     behavior
	invert  bool
	emit    func(s []byte, first bool)
	start   int  // of the pending piece
	end     int  // of the pending piece and of what was added
	pending bool // there is one
	match   bool // the last stretch was a delimiter
}

func (p *splitter) flush() {
	if p.pending && p.end > p.start {
		p.emit(p.s[p.start:p.end], p.first && p.start == 0)
	}
	p.pending = false
}

// add takes the stretch from the last one's end to end.
func (p *splitter) add(end int, match bool) {
	match = match != p.invert
	begin := p.end
	keep := false // joins the pending piece
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

// finish emits what is pending after the last stretch; the rest of s, if any, is no match.
func (p *splitter) finish() {
	if p.end < len(p.s) {
		p.add(len(p.s), false)
	}
	p.flush()
}

// found adds the match s[start:end] and the stretch before it.
func (p *splitter) found(start, end int) {
	if start > p.end {
		p.add(start, false)
	}
	p.add(end, true)
}
