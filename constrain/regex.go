package constrain

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// A side says what is before or after a part of a regular expression.
type side uint8

const (
	inner side = iota // other parts
	edge              // the start or the end of the text
	open              // any text: the expression may match anywhere
)

// A regex compiles regular expressions of one kind of text.
type regex struct {
	*arena
	char func(runeSet) expr // how a character is written
	any  expr
}

// regex is the texts that a regular expression matches, as a whole (edge) or somewhere (open). Syntax and meaning are those
// of RE2 and Go's package regexp, with the escapes of ECMA-262 for characters by number.
func (a *arena) regex(pattern string, char func(runeSet) expr, anchors side) (expr, error) {
	if len(pattern) > maxSource {
		return none, &LimitError{"bytes of a regular expression", maxSource}
	}
	goPattern, offset, err := fromECMA(pattern)
	if err != nil {
		return none, regexError(pattern, offset, err)
	}
	parsed, err := syntax.Parse(goPattern, syntax.Perl)
	if err != nil {
		var parseErr *syntax.Error
		if errors.As(err, &parseErr) {
			offset = max(0, strings.Index(pattern, parseErr.Expr))
			err = fmt.Errorf("%s: %q", parseErr.Code, parseErr.Expr)
		}
		return none, regexError(pattern, offset, err)
	}
	r := regex{a, char, a.star(char(anyRune))}
	e, err := r.compile(parsed, anchors, anchors)
	if err != nil {
		return none, regexError(pattern, 0, err)
	}
	return e, nil
}

func regexError(pattern string, offset int, err error) error {
	return &SyntaxError{"regular expression", offset, 1 + strings.Count(pattern[:offset], "\n"), err.Error()}
}

// fromECMA rewrites \uXXXX, \u{X} and \cX, which Go does not know.
func fromECMA(pattern string) (out string, offset int, err error) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] != '\\' || i+1 == len(pattern) {
			b.WriteByte(pattern[i])
			continue
		}
		rest := pattern[i:]
		switch rest[1] {
		case 'u':
			r, n, ok := unicodeEscape(rest)
			if !ok {
				return "", i, fmt.Errorf("%q is not the number of a character", rest[:min(6, len(rest))])
			}
			fmt.Fprintf(&b, `\x{%x}`, r)
			i += n - 1
		case 'c':
			if len(rest) < 3 || !('A' <= rest[2]&^0x20 && rest[2]&^0x20 <= 'Z') {
				return "", i, errors.New(`\c without a letter`)
			}
			fmt.Fprintf(&b, `\x{%x}`, rest[2]&0x1F)
			i += 2
		default:
			b.WriteString(rest[:2])
			i++
		}
	}
	return b.String(), 0, nil
}

// unicodeEscape reads \uXXXX, a pair of surrogates, or \u{X}.
func unicodeEscape(s string) (r rune, n int, ok bool) {
	if strings.HasPrefix(s, `\u{`) {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return 0, 0, false
		}
		v, err := strconv.ParseUint(s[3:end], 16, 32)
		return rune(v), end + 1, err == nil && v <= unicode.MaxRune
	}
	unit := func(s string) (rune, bool) {
		if len(s) < 6 || s[:2] != `\u` {
			return 0, false
		}
		v, err := strconv.ParseUint(s[2:6], 16, 16)
		return rune(v), err == nil
	}
	if r, ok = unit(s); !ok || !utf16.IsSurrogate(r) {
		return r, 6, ok
	}
	low, ok := unit(s[6:])
	r = utf16.DecodeRune(r, low)
	return r, 12, ok && r != unicode.ReplacementChar
}

func (r regex) compile(re *syntax.Regexp, left, right side) (expr, error) {
	switch re.Op {
	case syntax.OpNoMatch:
		return none, nil
	case syntax.OpEmptyMatch:
		return r.padded(empty, left, right), nil
	case syntax.OpLiteral:
		e := empty
		for i := len(re.Rune) - 1; i >= 0; i-- {
			set := runeSet{re.Rune[i], re.Rune[i]}
			if re.Flags&syntax.FoldCase != 0 {
				set = folded(re.Rune[i])
			}
			e = r.concat(r.char(set), e)
		}
		return r.padded(e, left, right), nil
	case syntax.OpCharClass:
		return r.padded(r.char(re.Rune), left, right), nil
	case syntax.OpAnyChar:
		return r.padded(r.char(anyRune), left, right), nil
	case syntax.OpAnyCharNotNL:
		return r.padded(r.char(runeSet{0, '\n' - 1, '\n' + 1, unicode.MaxRune}), left, right), nil
	case syntax.OpBeginText:
		if left == inner {
			return none, errors.New("^ is supported only at the start")
		}
		return r.padded(empty, edge, right), nil
	case syntax.OpEndText:
		if right == inner {
			return none, errors.New("$ is supported only at the end")
		}
		return r.padded(empty, left, edge), nil
	case syntax.OpCapture:
		return r.compile(re.Sub[0], left, right)
	case syntax.OpAlternate:
		var list []expr
		for _, sub := range re.Sub {
			e, err := r.compile(sub, left, right)
			if err != nil {
				return none, err
			}
			list = append(list, e)
		}
		return r.union(list...), nil
	case syntax.OpQuest:
		e, err := r.compile(re.Sub[0], left, right)
		return r.union(e, r.padded(empty, left, right)), err
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		n, m := re.Min, re.Max
		if re.Op != syntax.OpRepeat {
			n, m = 0, -1
			if re.Op == syntax.OpPlus {
				n = 1
			}
		}
		e, err := r.compile(re.Sub[0], inner, inner)
		return r.padded(r.repeat(e, n, m), left, right), err
	case syntax.OpConcat:
		return r.sequence(re.Sub, left, right)
	}
	return none, fmt.Errorf("%s is not supported", re)
}

// sequence is parts one after another. Anchors at its ends hold for what is next to them.
func (r regex) sequence(list []*syntax.Regexp, left, right side) (expr, error) {
	for len(list) > 0 && list[0].Op == syntax.OpBeginText && left != inner {
		left, list = edge, list[1:]
	}
	for len(list) > 0 && list[len(list)-1].Op == syntax.OpEndText && right != inner {
		right, list = edge, list[:len(list)-1]
	}
	if len(list) == 0 {
		return r.padded(empty, left, right), nil
	}
	var out []expr
	for i, sub := range list {
		before, after := inner, inner
		if i == 0 {
			before = left
		}
		if i == len(list)-1 {
			after = right
		}
		e, err := r.compile(sub, before, after)
		if err != nil {
			return none, err
		}
		out = append(out, e)
	}
	return r.concat(out...), nil
}

// padded is e with any text on its open sides.
func (r regex) padded(e expr, left, right side) expr {
	if left == open {
		e = r.concat(r.any, e)
	}
	if right == open {
		e = r.concat(e, r.any)
	}
	return e
}

// folded is the characters that differ from r in case alone.
func folded(r rune) runeSet {
	list := []rune{r}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		list = append(list, f)
	}
	return runesOf(list...)
}
