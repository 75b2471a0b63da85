package tokenizer

import "bytes"

// The pre-tokenizer patterns that most models share, as hand-written scanners.
// Each returns the length of the match at the start of s, which is never 0,
// because these patterns match at every character. TestScannersMatchRegexp
// compares them with the regular expressions.

const (
	patternGPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*` +
		`|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*` +
		`|\s*[\r\n]+|\s+(?!\S)|\s+`
	// The same three as other programs spell them.
	patternGPT2Short    = `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3Spread = `(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}` +
		`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2Spread = `(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}` +
		`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// coverScanners maps a pattern's exact text to its scanner.
var coverScanners = map[string]func(s []byte) int{
	patternGPT2:         scanGPT2,
	patternGPT2Short:    scanGPT2,
	patternLlama3:       func(s []byte) int { return scanLlama3(s, 3, true) },
	patternQwen2:        func(s []byte) int { return scanLlama3(s, 1, true) },
	patternLlama3Spread: func(s []byte) int { return scanLlama3(s, 3, false) },
	patternQwen2Spread:  func(s []byte) int { return scanLlama3(s, 1, false) },
}

// runWhile returns the end of the characters from i whose class has any bit of want.
func runWhile(t *[1 << 16]uint8, s []byte, i int, want uint8) int {
	for i < len(s) {
		r, n := decodeRune(s[i:])
		if classOf(t, r)&want == 0 {
			break
		}
		i += n
	}
	return i
}

// runUntil is runWhile for characters whose class has no bit of stop.
func runUntil(t *[1 << 16]uint8, s []byte, i int, stop uint8) int {
	for i < len(s) {
		r, n := decodeRune(s[i:])
		if classOf(t, r)&stop != 0 {
			break
		}
		i += n
	}
	return i
}

const classLNS = classLetter | classNumber | classSpace

func scanGPT2(s []byte) int {
	t := bmpClass()
	if s[0] == '\'' {
		if n := contraction(s, false, false); n > 0 {
			return n
		}
	}
	i := 0
	if s[0] == ' ' && len(s) > 1 {
		i = 1
	}
	r, n := decodeRune(s[i:])
	switch c := classOf(t, r); {
	case c&classLetter != 0:
		return runWhile(t, s, i+n, classLetter)
	case c&classNumber != 0:
		return runWhile(t, s, i+n, classNumber)
	case c&classSpace == 0:
		return runUntil(t, s, i+n, classLNS)
	}
	return spaceRun(t, s)
}

// scanLlama3 handles the patterns of Llama 3 (digits 3) and Qwen 2 (digits 1).
// With fold, contractions are matched by Unicode case folding, under
// which U+017F (long s) is an s.
func scanLlama3(s []byte, digits int, fold bool) int {
	t := bmpClass()
	if s[0] == '\'' {
		if n := contraction(s, true, fold); n > 0 {
			return n
		}
	}
	r, n := decodeRune(s)
	c := classOf(t, r)
	switch {
	case c&classLetter != 0:
		return runWhile(t, s, n, classLetter)
	case c&classNumber != 0:
		for i := 1; i < digits && n < len(s); i++ {
			r, m := decodeRune(s[n:])
			if classOf(t, r)&classNumber == 0 {
				break
			}
			n += m
		}
		return n
	}
	next := uint8(classSpace)
	nextLen := 0
	if n < len(s) {
		var q rune
		q, nextLen = decodeRune(s[n:])
		next = classOf(t, q)
	}
	if next&classLetter != 0 && c&classNewline == 0 {
		return runWhile(t, s, n+nextLen, classLetter)
	}
	if c&classSpace == 0 || r == ' ' && next&classLNS == 0 {
		i := runUntil(t, s, n, classLNS)
		for i < len(s) && (s[i] == '\r' || s[i] == '\n') {
			i++
		}
		return i
	}
	// \s*[\r\n]+: up to the last line break of the white space.
	end := runWhile(t, s, 0, classSpace)
	if k := bytes.LastIndexAny(s[:end], "\r\n"); k >= 0 {
		return k + 1
	}
	return spaceRun(t, s)
}

// spaceRun matches \s+(?!\S)|\s+ : the last of several spaces belongs to the word that follows.
func spaceRun(t *[1 << 16]uint8, s []byte) int {
	end, last := 0, 0
	for end < len(s) {
		r, n := decodeRune(s[end:])
		if classOf(t, r)&classSpace == 0 {
			if last > 0 {
				return last
			}
			return end
		}
		last = end
		end += n
	}
	return end
}

// contraction returns the length of 's 't 're 've 'm 'll 'd at the start of s, or 0.
func contraction(s []byte, anyCase, fold bool) int {
	if len(s) < 2 {
		return 0
	}
	a, b := s[1], byte(0)
	if len(s) > 2 {
		b = s[2]
	}
	if fold && a == 0xC5 && b == 0xBF {
		return 3
	}
	if anyCase {
		a, b = a|0x20, b|0x20
	}
	switch a {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if b == 'e' {
			return 3
		}
	case 'l':
		if b == 'l' {
			return 3
		}
	}
	return 0
}
