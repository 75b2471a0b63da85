package tokenizer

import (
	"sync"
	"unicode"
	"unicode/utf8"
)

// Character classes of the pre-tokenizers, as bits.
const (
	classLetter  = 1 << iota // \p{L}
	classNumber              // \p{N}
	classSpace               // White_Space
	classPunct               // \p{P} or ASCII punctuation
	classMark                // \p{M}
	classNewline             // \r or \n
	classWord                // \w: alphabetic, mark, decimal digit, connector
	classControl             // \p{C} without unassigned code points
)

// bmpClass holds the bits of the first 65536 code points, so that a character takes one load.
var bmpClass = sync.OnceValue(func() *[1 << 16]uint8 {
	t := new([1 << 16]uint8)
	for r := rune(0); r < 1<<16; r++ {
		t[r] = slowClass(r)
	}
	return t
})

func slowClass(r rune) (c uint8) {
	switch {
	case unicode.Is(unicode.L, r):
		c = classLetter
	case unicode.Is(unicode.N, r):
		c = classNumber
	case unicode.Is(unicode.P, r):
		c = classPunct
	case unicode.Is(unicode.M, r):
		c = classMark
	case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs):
		c = classControl
	}
	if unicode.IsSpace(r) {
		c |= classSpace
	}
	if r == '\r' || r == '\n' {
		c |= classNewline
	}
	if r < utf8.RuneSelf && unicode.Is(unicode.S, r) {
		c |= classPunct
	}
	if c&(classLetter|classMark) != 0 || unicode.In(r, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control) {
		c |= classWord
	}
	return c
}

func classOf(t *[1 << 16]uint8, r rune) uint8 {
	if uint32(r) < 1<<16 {
		return t[r]
	}
	return slowClass(r)
}

// decodeRune is utf8.DecodeRune with the ASCII case inlined; s is not empty.
func decodeRune(s []byte) (rune, int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	return utf8.DecodeRune(s)
}

// byteRunes is the byte-level alphabet of GPT-2 (Radford et al. 2019): printable
// Latin-1 bytes stand for themselves, the rest for U+0100 and up, in order.
var byteRunes = func() (t [256]rune) {
	next := rune(256)
	for b := range t {
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			t[b] = rune(b)
		} else {
			t[b] = next
			next++
		}
	}
	return t
}()

// runeByte is the inverse of byteRunes; -1 if a rune stands for no byte.
var runeByte = func() (t [324]int16) {
	for i := range t {
		t[i] = -1
	}
	for b, r := range byteRunes {
		t[r] = int16(b)
	}
	return t
}()

// appendByteLevel appends s with each byte written as its byte-level character.
func appendByteLevel(dst, s []byte) []byte {
	for _, b := range s {
		if r := byteRunes[b]; r < utf8.RuneSelf {
			dst = append(dst, byte(r))
		} else {
			dst = append(dst, byte(0xC0|r>>6), byte(0x80|r&0x3F)) // all below U+0144
		}
	}
	return dst
}

// byteLevelBytes turns byte-level characters back into bytes. It returns false if a
// character of s is outside the alphabet.
func byteLevelBytes(dst []byte, s string) ([]byte, bool) {
	for _, r := range s {
		if int(r) >= len(runeByte) || runeByte[r] < 0 {
			return dst, false
		}
		dst = append(dst, byte(runeByte[r]))
	}
	return dst, true
}
