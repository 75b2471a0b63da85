package tokenizer

import "strings"

// Stream decodes tokens one at a time, special tokens left out. Text that ends in
// U+FFFD may be an unfinished character and is held back until it is whole, so what
// Next returns is always valid UTF-8 and joins to what Decode gives. One goroutine at a time.
type Stream struct {
	t       *Tokenizer
	pending []int  // tokens whose text has not been returned
	mid     bool   // some text has been
	sent    string // what was returned, for decoders that may rewrite earlier text: they see all tokens each time
}

// maxPending bounds the tokens held back, and so the work of one Next, when a model
// goes on without ever finishing a character.
const maxPending = 1024

// Stream returns a decoder for one generated text.
func (t *Tokenizer) Stream() *Stream { return &Stream{t: t} }

// Next returns the text that the token completes, "" if none.
func (s *Stream) Next(id int) string {
	if _, ok := s.t.token(id, true); !ok {
		return ""
	}
	s.pending = append(s.pending, id)
	text := s.text()
	if strings.HasSuffix(text, "\uFFFD") && len(s.pending) < maxPending {
		return ""
	}
	return s.release(text)
}

// Flush returns what is still held back. The stream then starts anew.
func (s *Stream) Flush() string {
	text := s.release(s.text())
	*s = Stream{t: s.t, pending: s.pending[:0]}
	return text
}

func (s *Stream) text() string {
	toks := make([]token, 0, 8)
	for _, id := range s.pending {
		if tok, ok := s.t.token(id, true); ok {
			toks = append(toks, tok)
		}
	}
	if len(toks) == 0 {
		return ""
	}
	return s.t.decode(toks, s.mid)
}

func (s *Stream) release(text string) string {
	if !s.t.local {
		rest, ok := strings.CutPrefix(text, s.sent)
		if !ok {
			return ""
		}
		s.sent = text
		return rest
	}
	if text == "" && !s.mid && len(s.pending) < maxPending {
		return "" // still at the start, where a space may be stripped
	}
	s.pending = s.pending[:0]
	s.mid = true
	return text
}
