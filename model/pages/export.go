package pages

import "context"

// An Extent is the positions of a sequence in one page.
type Extent struct {
	Group Group
	Page  int32
	First int // the position in the sequence of the page's first row
	Rows  int // 1 to PageSize
}

// Export returns where the keys and values of the sequence's tokens are: for the local group, in the pages that its
// next query sees. It is valid until the next call that changes s. To save a sequence is to copy these and Tokens.
func (s *Sequence) Export() ([]Extent, error) {
	if s.state != nil {
		return nil, s.state
	}
	return s.extents(0, s.length), nil
}

// extents returns the pages with positions first to end-1, of which first begins a page.
func (s *Sequence) extents(first, end int) []Extent {
	var all []Extent
	size := s.pool.pageSize
	for g := range s.pool.all() {
		for at := first; at < end; at += size {
			if page := s.page(g, at/size); page != 0 {
				all = append(all, Extent{Group: g, Page: page, First: at, Rows: min(size, end-at)})
			}
		}
	}
	return all
}

// Import makes a sequence for tokens that were exported. It shares the whole pages that are still there and reserves
// the rest, in the local group only what the query after the last token sees. The caller fills the extents and commits
// the tokens from Len on; only then may others share them, and only then can the sequence be evaluated further. If that
// fails, the caller releases it. The errors are those of Reserve.
func (p *Pool) Import(ctx context.Context, tokens []int, made Provenance) (*Sequence, []Extent, error) {
	s, err := p.Acquire(ctx, tokens, len(tokens), made)
	if err != nil {
		return nil, nil, err
	}
	if s.length == len(tokens) {
		return s, nil, nil
	}
	n, err := s.Truncate(s.length - s.length%p.pageSize)
	if err == nil {
		s.passWindow(len(tokens))
		err = s.extend(ctx, len(tokens), max(n, len(tokens)-p.window+1))
	}
	if err != nil {
		s.Release()
		return nil, nil, err
	}
	return s, s.extents(n, len(tokens)), nil
}
