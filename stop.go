package pumice

import "strings"

// A stopper searches a growing text for stop strings. It holds back text that may begin one until that is decided.
type stopper struct {
	stops []string // none of them empty
	held  string
}

// push appends more text and returns the text that is safe to show. hit says that a stop string was found; the shown
// text ends before it.
func (s *stopper) push(more string) (shown string, hit bool) {
	if len(s.stops) == 0 {
		return more, false
	}
	text := s.held + more
	first := len(text)
	for _, stop := range s.stops {
		if i := strings.Index(text, stop); i >= 0 && i < first {
			first, hit = i, true
		}
	}
	if hit {
		s.held = ""
		return text[:first], true
	}
	keep := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(text)); n > keep; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				keep = n
			}
		}
	}
	s.held = text[len(text)-keep:]
	return text[:len(text)-keep], false
}

// rest returns the text held back, at the end of the text.
func (s *stopper) rest() string {
	held := s.held
	s.held = ""
	return held
}
