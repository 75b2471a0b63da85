package tokenizer

import "strings"

// Stream decodes tokens one at a time. It holds back text that ends in U+FFFD, which may
// be an incomplete character, until it is complete. So Next always returns valid UTF-8, and its results join to the
// result of Decode. Only one goroutine at a time may use a Stream.
type Stream struct {
	t       *Tokenizer
	special bool   // special tokens are spelled
	pending []int  // tokens whose text has not been returned
	mid     bool   // some text has been returned
	sent    string // text returned so far, for decoders that are not local: they decode all tokens each time
}

// maxPending bounds the tokens held back, and so the work of one Next, if a model
// never completes a character.
const maxPending = 1024

// Stream returns a decoder for one generated text. It leaves out special tokens.
func (t *Tokenizer) Stream() *Stream { return &Stream{t: t} }

// StreamSpecial returns a decoder that spells special tokens too.
func (t *Tokenizer) StreamSpecial() *Stream { return &Stream{t: t, special: true} }

// Next returns the text that the token completes, or "" if there is none.
func (s *Stream) Next(id int) string {
	if _, ok := s.t.token(id, !s.special); !ok {
		return ""
	}
	s.pending = append(s.pending, id)
	text := s.text()
	if strings.HasSuffix(text, "\uFFFD") && len(s.pending) < maxPending {
		return ""
	}
	return s.release(text)
}

// Flush returns the text still held back, and resets the stream.
func (s *Stream) Flush() string {
	text := s.release(s.text())
	*s = Stream{t: s.t, special: s.special, pending: s.pending[:0]}
	return text
}

func (s *Stream) text() string {
	toks := make([]token, 0, 8)
	for _, id := range s.pending {
		if tok, ok := s.t.token(id, !s.special); ok {
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
		return "" // at the start, where a space may be stripped
	}
	s.pending = s.pending[:0]
	s.mid = true
	return text
}

// After returns the text of a token after another one: the first token of a text may lose a space, and one that completes
// a character of the other is decoded by itself.
func (t *Tokenizer) After(before, id int) string {
	if text, ok := strings.CutPrefix(t.Decode([]int{before, id}, false), t.Decode([]int{before}, false)); ok {
		return text
	}
	return t.Decode([]int{id}, false)
}
