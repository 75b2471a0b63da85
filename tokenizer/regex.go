package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// A pattern is a regular expression of a tokenizer file. Those files are written for
// Oniguruma; after the translation below, regexp2 (the .NET dialect) agrees with it on the
// constructs that they use. Both backtrack, so each search has a time limit.
type pattern struct{ re *regexp2.Regexp }

const (
	// All searches of one text may take this long, plus this much per byte: a hundred times as long as real patterns
	// take on an idle machine, since a machine may be busy.
	matchTimeout = 500 * time.Millisecond
	matchPerByte = 20 * time.Microsecond
	// A pattern must search all probes in this time; a linear one needs a hundredth of it.
	probeTimeout = 300 * time.Millisecond
	probeRunes   = 3000
	maxPattern   = 1 << 16
)

var errSlowPattern = errors.New("pattern takes more than linear time")

// compilePattern translates and compiles an Oniguruma expression, and tests it with
// texts for which catastrophic patterns take exponential time.
func compilePattern(expr string) (*pattern, error) {
	if len(expr) > maxPattern {
		return nil, fmt.Errorf("pattern of %d bytes", len(expr))
	}
	net, err := translatePattern(expr)
	if err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(net, regexp2.Multiline)
	if err != nil {
		return nil, err
	}
	re.MatchTimeout = probeTimeout
	start := time.Now()
	for _, unit := range []string{"a", "A", " ", "1", "\n", "'", "-", "ab ", "a1", "你", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"} {
		probe := []rune(strings.Repeat(unit, probeRunes/utf8.RuneCountInString(unit)) + "\x00")
		err := re.FindRunesMatches(probe, 0, func(regexp2.MatchView) bool { return time.Since(start) < probeTimeout })
		if err != nil || time.Since(start) >= probeTimeout {
			return nil, errSlowPattern
		}
	}
	re.MatchTimeout = matchTimeout
	return &pattern{re}, nil
}

// translatePattern turns possessive quantifiers, which regexp2 lacks, into atomic
// groups, and refuses constructs with different meanings in the two dialects.
func translatePattern(expr string) (string, error) {
	var out strings.Builder
	atom := 0        // where in out the last atom starts
	var groups []int // where the open groups start in out
	for i := 0; i < len(expr); {
		switch c := expr[i]; c {
		case '\\':
			if i+1 == len(expr) {
				return "", errors.New("ends in a backslash")
			}
			n := 2
			switch expr[i+1] {
			case 'p', 'P':
				if k := strings.IndexByte(expr[i:], '}'); k > 0 && i+2 < len(expr) && expr[i+2] == '{' {
					n = k + 1
				}
			case 'h', 'H', 'R', 'X', 'K', 'g', 'y', 'Y', 'O', 'N':
				return "", fmt.Errorf("escape %q", expr[i:i+2])
			}
			if strings.HasPrefix(expr[i:], `\p{^`) {
				return "", fmt.Errorf("escape %q", expr[i:i+n])
			}
			atom = out.Len()
			if word := wordEscapes[expr[i:i+n]]; word != "" {
				out.WriteString(word)
			} else {
				out.WriteString(expr[i : i+n])
			}
			i += n
		case '[':
			n, err := classEnd(expr[i:])
			if err != nil {
				return "", err
			}
			atom = out.Len()
			class, err := translateClass(expr[i : i+n])
			if err != nil {
				return "", err
			}
			out.WriteString(class)
			i += n
		case '(':
			groups = append(groups, out.Len())
			out.WriteByte(c)
			i++
		case ')':
			if len(groups) == 0 {
				return "", errors.New("unmatched )")
			}
			atom, groups = groups[len(groups)-1], groups[:len(groups)-1]
			out.WriteByte(c)
			i++
		case '?', '*', '+', '{':
			n := 1
			if c == '{' {
				k := strings.IndexByte(expr[i:], '}')
				if k < 0 || strings.Trim(expr[i+1:i+k], "0123456789,") != "" || k == 1 {
					atom = out.Len() // a literal brace
					out.WriteByte(c)
					i++
					continue
				}
				n = k + 1
			}
			if c == '?' && i > 0 && expr[i-1] == '(' && (i < 2 || expr[i-2] != '\\') {
				out.WriteByte(c) // the start of (?:, (?i:, (?!
				i++
				continue
			}
			quantifier := expr[i : i+n]
			i += n
			if i < len(expr) && expr[i] == '+' {
				if c == '{' {
					return "", fmt.Errorf("quantifier %q", quantifier+"+")
				}
				s := out.String()
				out.Reset()
				fmt.Fprintf(&out, "%s(?>%s%s)", s[:atom], s[atom:], quantifier)
				i++
			} else {
				out.WriteString(quantifier)
				if i < len(expr) && expr[i] == '?' {
					out.WriteByte('?')
					i++
				}
			}
		default:
			n := 1
			if c >= utf8.RuneSelf {
				_, n = utf8.DecodeRuneInString(expr[i:])
			}
			atom = out.Len()
			out.WriteString(expr[i : i+n])
			i += n
		}
	}
	return out.String(), nil
}

// wordClass is Oniguruma's \w, which differs from the .NET one: alphabetic, mark, decimal
// digit, connector, and the superscripts and fractions of Latin-1.
const wordClass = `\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\u24B6-\u24E9\u00B2\u00B3\u00B9\u00BC-\u00BE`

// wordEscapes are the escapes that depend on wordClass.
var wordEscapes = map[string]string{
	`\w`: `[` + wordClass + `]`,
	`\W`: `[^` + wordClass + `]`,
	`\b`: `(?:(?<=[` + wordClass + `])(?![` + wordClass + `])|(?<![` + wordClass + `])(?=[` + wordClass + `]))`,
	`\B`: `(?:(?<=[` + wordClass + `])(?=[` + wordClass + `])|(?<![` + wordClass + `])(?![` + wordClass + `]))`,
}

// classEnd returns the length of the character class that expr starts with.
func classEnd(expr string) (int, error) {
	i := 1
	if i < len(expr) && expr[i] == '^' {
		i++
	}
	for first := true; i < len(expr); first = false {
		switch {
		case expr[i] == '\\':
			i++
		case expr[i] == ']' && !first:
			return i + 1, nil
		case expr[i] == '[', strings.HasPrefix(expr[i:], "&&"):
			return 0, fmt.Errorf("nested class or intersection in %q", expr)
		}
		i++
	}
	return 0, errors.New("class without ]")
}

// translateClass replaces \w inside a class.
func translateClass(class string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(class); i++ {
		if class[i] != '\\' {
			out.WriteByte(class[i])
			continue
		}
		i++
		switch class[i] {
		case 'w':
			out.WriteString(wordClass)
		case 'W', 'h', 'H', 'R':
			return "", fmt.Errorf("escape %q in a class", class[i-1:i+1])
		default:
			out.WriteString(class[i-1 : i+1])
		}
	}
	return out.String(), nil
}

// runeBuf is a text as runes, which regexp2 needs, with the byte offset of each.
type runeBuf struct {
	runes   []rune
	offsets []int
}

func (b *runeBuf) fill(s []byte) {
	b.runes, b.offsets = b.runes[:0], b.offsets[:0]
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		b.runes, b.offsets = append(b.runes, r), append(b.offsets, i)
		i += n
	}
	b.offsets = append(b.offsets, len(s))
}

// each calls found with the byte range of every match in s, in order. If the search or
// the encoder runs out of time, it fails the encoder and returns false.
func (p *pattern) each(e *encoder, stage int, s []byte, found func(start, end int)) bool {
	b := &e.runeBufs[stage]
	b.fill(s)
	last := -1
	var err error
	if time.Now().After(e.deadline) {
		e.fail("pattern %q: %v", p.re.String(), errSlowPattern)
		return false
	}
	searchErr := p.re.FindRunesMatches(b.runes, 0, func(m regexp2.MatchView) bool {
		start, n, _ := m.GroupRange(0)
		end := start + n
		if n == 0 && start == last {
			return true // an empty match at the end of the one before
		}
		last = end
		found(b.offsets[start], b.offsets[end])
		if time.Now().After(e.deadline) {
			err = errSlowPattern
		}
		return err == nil && e.err == nil
	})
	if searchErr != nil {
		err = searchErr
	}
	if err != nil {
		e.fail("pattern %q: %q", p.re.String(), err)
	}
	return err == nil
}
