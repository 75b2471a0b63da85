package tokenizer

// TokenBytes returns the bytes that a token adds to a text that it does not start; they may be a part of a character. It
// returns false if there is no such token, or if its text depends on the tokens around it.
func (t *Tokenizer) TokenBytes(id int) ([]byte, bool) {
	tok, ok := t.token(id, false)
	if !ok || !t.local {
		return nil, false
	}
	switch how := bytesOf(t.decoder); {
	case how == byteLevel:
		if b, ok := byteLevelBytes(nil, tok.text); ok {
			return b, true
		}
		return []byte(tok.text), true
	case how == byteFallback:
		if b, ok := isByteToken(tok.text); ok {
			return []byte{b}, true
		}
	}
	if d, ok := t.decoder.(*pieceDecoder); ok {
		if b, ok := d.bytes[tok.id]; ok {
			return []byte{b}, true
		}
	}
	return []byte(t.decode([]token{tok}, true)), true
}

// How a decoder turns tokens into bytes that are no characters by themselves.
const (
	characters = iota
	byteLevel
	byteFallback
)

// bytesOf finds the step of a decoder that joins bytes.
func bytesOf(d decoder) int {
	switch d := d.(type) {
	case byteLevelDecoder:
		return byteLevel
	case byteFallbackDecoder:
		return byteFallback
	case decSequence:
		for _, step := range d {
			if how := bytesOf(step); how != characters {
				return how
			}
		}
	}
	return characters
}
