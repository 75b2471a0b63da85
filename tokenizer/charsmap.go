package tokenizer

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/rivo/uniseg"
)

// charsMap is SentencePiece's precompiled_charsmap: a Darts double-array trie from
// strings to offsets in a list of NUL-terminated replacements.
//
// Layout: uint32 size of the trie in bytes, the trie's little-endian uint32 units, the list.
type charsMap struct {
	units []uint32
	list  []byte
}

func parseCharsMap(b []byte) (*charsMap, error) {
	if len(b) < 4 {
		return nil, errors.New("charsmap shorter than its header")
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if uint64(n) > uint64(len(b)) || n%4 != 0 || n == 0 {
		return nil, errors.New("charsmap with a bad trie size")
	}
	m := &charsMap{units: make([]uint32, n/4), list: b[n:]}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return m, nil
}

// maxMapped limits the length of a string that is replaced. A broken trie may have a cycle, in which a match would be
// as long as the text.
const maxMapped = 128

// A unit of the trie (Yata, darts-clone) has a leaf flag in bit 8, the label in bits 0 to 7
// and 31, and the offset to the children from bit 10 up, scaled by 256 if bit 9 is set.
func unitOffset(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }

// match returns the replacement of the longest prefix of s that has one, or of the
// shortest if longest is false, and the prefix's length, which is 0 if there is none.
func (m *charsMap) match(s []byte, longest bool) (replacement []byte, n int) {
	at := unitOffset(m.units[0])
	for i, c := range s[:min(len(s), maxMapped)] {
		if c == 0 && !longest {
			break // the Rust reader stops here, the C++ one continues
		}
		at ^= uint32(c)
		if int64(at) >= int64(len(m.units)) {
			break
		}
		u := m.units[at]
		if u&(1<<31|0xFF) != uint32(c) {
			break
		}
		at ^= unitOffset(u)
		if int64(at) >= int64(len(m.units)) {
			break
		}
		if u>>8&1 == 1 {
			value := m.units[at] & (1<<31 - 1)
			if int64(value) > int64(len(m.list)) {
				break
			}
			replacement, n = m.list[value:], i+1
			if !longest {
				break
			}
		}
	}
	if k := bytes.IndexByte(replacement[:min(len(replacement), maxReplacement)], 0); k >= 0 {
		replacement = replacement[:k]
	} else if len(replacement) > maxReplacement {
		return nil, 0 // no NUL ends the replacement: the list is broken
	}
	return replacement, n
}

// precompiledNorm is tokenizer.json's Precompiled. Unlike SentencePiece it works on
// grapheme clusters: a cluster under six bytes is replaced as a whole by the replacement of its
// shortest known prefix, a longer one character by character.
type precompiledNorm struct{ m *charsMap }

func (p precompiledNorm) normalize(e *encoder, s []byte) ([]byte, bool) {
	out := make([]byte, 0, len(s)+len(s)/8)
	moved := false
	for rest, state := s, -1; len(rest) > 0 && e.err == nil; {
		var cluster []byte
		cluster, rest, _, state = uniseg.FirstGraphemeCluster(rest, state)
		if len(cluster) < 6 {
			if r, n := p.m.match(cluster, false); n > 0 {
				if e.made(len(r)) {
					out = append(out, r...)
				}
				moved = moved || len(out) == 0
				continue
			}
		}
		for len(cluster) > 0 {
			_, n := decodeRune(cluster)
			if r, k := p.m.match(cluster[:n], false); k > 0 {
				if e.made(len(r)) {
					out = append(out, r...)
				}
			} else {
				out = append(out, cluster[:n]...)
			}
			moved = moved || len(out) == 0
			cluster = cluster[n:]
		}
	}
	return out, moved
}

// pieceNorm is SentencePiece's normalizer, with its names for the options.
type pieceNorm struct {
	m                      *charsMap // nil for the identity
	user                   *matcher  // user-defined pieces, which are not normalized
	addDummyPrefix         bool
	removeExtraWhitespaces bool
	escapeWhitespaces      bool
	whitespaceAsSuffix     bool
}

const spaceSymbol = "▁" // U+2581

// next returns the replacement for the start of s, and how many bytes of s it replaces.
func (p *pieceNorm) next(e *encoder, s []byte) ([]byte, int) {
	if p.user != nil && p.user.first[s[0]] {
		if n, _ := p.user.prefix(e, s, nil, nil); n > 0 {
			return s[:n], n
		}
	}
	if p.m != nil {
		if r, n := p.m.match(s, true); n > 0 {
			return r, n
		}
	}
	_, n := decodeRune(s)
	return s[:n], n
}

func (p *pieceNorm) normalize(e *encoder, s []byte) ([]byte, bool) {
	if p.removeExtraWhitespaces {
		for len(s) > 0 {
			r, n := p.next(e, s)
			if string(r) != " " {
				break
			}
			s = s[n:]
		}
	}
	if len(s) == 0 {
		return nil, false
	}
	space := []byte(" ")
	if p.escapeWhitespaces {
		space = []byte(spaceSymbol)
	}
	out := make([]byte, 0, len(s)+len(s)/2+2*len(space))
	if p.addDummyPrefix && !p.whitespaceAsSuffix {
		out = append(out, space...)
	}
	afterSpace := p.removeExtraWhitespaces
	for len(s) > 0 {
		r, n := p.next(e, s)
		s = s[n:]
		if n < len(r) && !e.made(len(r)-n) {
			return nil, false
		}
		for afterSpace && len(r) > 0 && r[0] == ' ' {
			r = r[1:]
		}
		for _, c := range r {
			if c == ' ' {
				out = append(out, space...)
			} else {
				out = append(out, c)
			}
		}
		if len(r) > 0 {
			afterSpace = r[len(r)-1] == ' '
		}
		afterSpace = afterSpace && p.removeExtraWhitespaces
	}
	if p.removeExtraWhitespaces {
		for bytes.HasSuffix(out, space) {
			out = out[:len(out)-len(space)]
		}
	}
	if p.addDummyPrefix && p.whitespaceAsSuffix {
		out = append(out, space...)
	}
	return out, false
}

// isByteToken returns the byte that a <0xNN> token stands for.
func isByteToken(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	var b byte
	for _, c := range []byte(s[3:5]) {
		switch {
		case c >= '0' && c <= '9':
			b = b<<4 | (c - '0')
		case c >= 'A' && c <= 'F':
			b = b<<4 | (c - 'A' + 10)
		case c >= 'a' && c <= 'f':
			b = b<<4 | (c - 'a' + 10)
		default:
			return 0, false
		}
	}
	return b, true
}
