package pumice

import "strings"

// A stopper watches a growing text for stop strings. What may be the beginning of one is held back until it is clear.
type stopper struct {
	stops []string // none empty
	held  string
}

// push takes the next piece of text and returns what is safe to show. hit says that a stop string was found; then the text
// ends before it.
func (s *stopper) push(piece string) (shown string, hit bool) {
	if len(s.stops) == 0 {
		return piece, false
	}
	text := s.held + piece
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

// rest returns what is held back, for the end of the text.
func (s *stopper) rest() string {
	held := s.held
	s.held = ""
	return held
}
