package constrain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// gbnf reads a grammar in llama.cpp's GBNF (its grammars/README.md): rules NAME ::= EXPRESSION with literals, classes of
// characters, groups, alternatives, * + ? {n} {n,} {n,m} and comments. The text is what the rule root matches. It returns the
// rule's expression.
func (a *arena) gbnf(source string) (expr, error) {
	if len(source) > maxSource {
		return none, &LimitError{"bytes of a grammar", maxSource}
	}
	g := &gbnf{arena: a, src: source, named: map[string]*gbnfRule{}}
	if err := g.parse(); err != nil {
		return none, err
	}
	root := g.named["root"]
	if root == nil || root.body == nil {
		return none, g.errorAt(0, "there is no rule root")
	}
	for _, r := range g.order {
		if r.body == nil {
			return none, g.errorAt(r.at, fmt.Sprintf("there is no rule %s", r.name))
		}
	}
	for _, r := range g.order {
		g.build(r)
	}
	if a.err != nil {
		return none, a.err
	}
	if rule := a.startsWithItself(); rule >= 0 {
		r := g.order[slices.IndexFunc(g.order, func(r *gbnfRule) bool { return r.rule == rule })]
		return none, g.errorAt(r.at, fmt.Sprintf("rule %s starts with itself", r.name))
	}
	return g.refer(root), a.err
}

type gbnf struct {
	*arena
	src   string
	at    int
	depth int
	named map[string]*gbnfRule
	order []*gbnfRule
}

// A gbnfRule is a rule as it is read. Its body makes its expression, once all rules are known.
type gbnfRule struct {
	name     string
	at       int // where it is made, or first named
	body     func() expr
	building bool
	built    bool
	expr     expr
	rule     int // in the arena, -1 if nothing refers to it
}

// build makes the expression of a rule.
func (g *gbnf) build(r *gbnfRule) {
	if r.built || r.building {
		return
	}
	r.building = true
	r.expr = r.body()
	r.building, r.built = false, true
	if r.rule >= 0 {
		g.rules[r.rule] = r.expr
	}
}

// refer is a rule where another one names it. Short ones without rules of their own, such as that of a digit, are put in
// place; others are called, so that what is found out about them serves all places.
func (g *gbnf) refer(r *gbnfRule) expr {
	g.build(r)
	if r.built && !g.is(r.expr, ruled|endless) {
		return r.expr
	}
	if r.rule < 0 {
		r.rule = g.arena.rule()
		if r.built {
			g.rules[r.rule] = r.expr
		}
	}
	return g.ref(r.rule)
}

func (g *gbnf) errorAt(offset int, msg string) error {
	return &SyntaxError{"grammar", offset, 1 + strings.Count(g.src[:offset], "\n"), msg}
}

func (g *gbnf) fail(format string, args ...any) error {
	return g.errorAt(g.at, fmt.Sprintf(format, args...))
}

func (g *gbnf) rule(name string, at int) *gbnfRule {
	r, ok := g.named[name]
	if !ok {
		r = &gbnfRule{name: name, at: at, rule: -1}
		g.named[name] = r
		g.order = append(g.order, r)
	}
	return r
}

// space skips blanks and comments, and line breaks too if lines is set.
func (g *gbnf) space(lines bool) {
	for g.at < len(g.src) {
		switch c := g.src[g.at]; {
		case c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'):
			g.at++
		case c == '#':
			if end := strings.IndexAny(g.src[g.at:], "\r\n"); end >= 0 {
				g.at += end
			} else {
				g.at = len(g.src)
			}
		default:
			return
		}
	}
}

func (g *gbnf) peek() byte {
	if g.at < len(g.src) {
		return g.src[g.at]
	}
	return 0
}

func (g *gbnf) name() string {
	from := g.at
	for c := g.peek(); 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'; c = g.peek() {
		g.at++
	}
	return g.src[from:g.at]
}

func (g *gbnf) parse() error {
	for g.space(true); g.at < len(g.src); g.space(true) {
		at := g.at
		name := g.name()
		if name == "" {
			return g.fail("want the name of a rule")
		}
		if len(g.order) >= maxRules {
			return &LimitError{"rules", maxRules}
		}
		r := g.rule(name, at)
		r.at = at
		if r.body != nil {
			return g.errorAt(at, fmt.Sprintf("there are two rules %s", name))
		}
		g.space(false)
		if !strings.HasPrefix(g.src[g.at:], "::=") {
			return g.fail("want ::= after %s", name)
		}
		g.at += len("::=")
		g.space(true)
		body, err := g.alternatives(false)
		if err != nil {
			return err
		}
		if c := g.peek(); c != '\n' && c != '\r' && g.at < len(g.src) {
			return g.fail("unexpected %q", c)
		}
		r.body = body
	}
	return nil
}

// alternatives are separated by |. In a group, lines do not end them.
func (g *gbnf) alternatives(group bool) (func() expr, error) {
	var list []func() expr
	for {
		e, err := g.sequence(group)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
		if g.peek() != '|' {
			break
		}
		g.at++
		g.space(true)
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return func() expr { return g.union(called(list)...) }, nil
}

func called(list []func() expr) []expr {
	out := make([]expr, len(list))
	for i, f := range list {
		out[i] = f()
	}
	return out
}

func (g *gbnf) sequence(group bool) (func() expr, error) {
	var list []func() expr
	for g.at < len(g.src) {
		item, err := g.item()
		if err != nil {
			return nil, err
		}
		if item == nil {
			break
		}
		for {
			g.space(group)
			n, m, ok, err := g.count()
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			repeated := item
			item = func() expr { return g.repeat(repeated(), n, m) }
		}
		list = append(list, item)
	}
	return func() expr { return g.concat(called(list)...) }, nil
}

// item is a literal, a class, a group, a dot or the name of a rule; nil if there is none.
func (g *gbnf) item() (func() expr, error) {
	switch c := g.peek(); c {
	case '"':
		start := g.at
		g.at++
		var b strings.Builder
		for g.peek() != '"' {
			r, err := g.char(start)
			if err != nil {
				return nil, err
			}
			b.WriteRune(r)
		}
		g.at++
		s := b.String()
		return func() expr { return g.literal(s) }, nil
	case '[':
		set, err := g.class()
		return func() expr { return g.utf8(set) }, err
	case '.':
		g.at++
		return func() expr { return g.utf8(anyRune) }, nil
	case '(':
		start := g.at
		if g.depth++; g.depth > maxNesting {
			return nil, &LimitError{"groups in groups", maxNesting}
		}
		g.at++
		g.space(true)
		e, err := g.alternatives(true)
		if err != nil {
			return nil, err
		}
		if g.peek() != ')' {
			return nil, g.errorAt(start, "the group has no end")
		}
		g.at++
		g.depth--
		return e, nil
	default:
		at := g.at
		name := g.name()
		if name == "" {
			return nil, nil
		}
		r := g.rule(name, at)
		return func() expr { return g.refer(r) }, nil
	}
}

// count reads how often the item before it is repeated.
func (g *gbnf) count() (n, m int, ok bool, err error) {
	switch g.peek() {
	case '*':
		n, m = 0, -1
	case '+':
		n, m = 1, -1
	case '?':
		n, m = 0, 1
	case '{':
		end := strings.IndexByte(g.src[g.at:], '}')
		if end < 0 {
			return 0, 0, false, g.fail("the repetition has no end")
		}
		from, to, two := strings.Cut(g.src[g.at+1:g.at+end], ",")
		if n, err = g.number(from); err != nil {
			return 0, 0, false, err
		}
		if m = n; two {
			if m = -1; strings.TrimSpace(to) != "" {
				if m, err = g.number(to); err != nil {
					return 0, 0, false, err
				}
				if m < n {
					return 0, 0, false, g.fail("the repetition ends before it begins")
				}
			}
		}
		g.at += end
	default:
		return 0, 0, false, nil
	}
	g.at++
	return n, m, true, nil
}

func (g *gbnf) number(s string) (int, error) {
	s = strings.TrimSpace(s)
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, g.fail("%q is not how often something is repeated", s[:min(20, len(s))])
	}
	if n > maxRepeats {
		return 0, &LimitError{"repetitions", maxRepeats}
	}
	return int(n), nil
}

// class reads a class of characters, such as [^a-z\n].
func (g *gbnf) class() (runeSet, error) {
	start := g.at
	g.at++
	negated := g.peek() == '^'
	if negated {
		g.at++
	}
	var set runeSet
	for g.peek() != ']' {
		lo, err := g.char(start)
		if err != nil {
			return nil, err
		}
		hi := lo
		if g.peek() == '-' && g.at+1 < len(g.src) && g.src[g.at+1] != ']' {
			g.at++
			if hi, err = g.char(start); err != nil {
				return nil, err
			}
			if hi < lo {
				return nil, g.fail("the range ends before it begins")
			}
		}
		set = append(set, lo, hi)
	}
	g.at++
	set = set.merged()
	if negated {
		set = set.negated()
	}
	return set, nil
}

// char reads a character of a literal or a class that begins at start.
func (g *gbnf) char(start int) (rune, error) {
	if g.at >= len(g.src) || g.src[g.at] == '\n' && g.src[start] == '"' {
		return 0, g.errorAt(start, "the literal or class has no end")
	}
	r, n := utf8.DecodeRuneInString(g.src[g.at:])
	if r == utf8.RuneError && n == 1 {
		return 0, g.fail("the text is not UTF-8")
	}
	g.at += n
	if r != '\\' {
		return r, nil
	}
	c := g.peek()
	g.at++
	digits := 0
	switch c {
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case '\\', '"', '[', ']', '-', '^', '/', '\'':
		return rune(c), nil
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		g.at -= 2
		return 0, g.fail("unknown escape")
	}
	if g.at+digits > len(g.src) {
		return 0, g.errorAt(start, "the literal or class has no end")
	}
	v, err := strconv.ParseUint(g.src[g.at:g.at+digits], 16, 32)
	if err != nil || !utf8.ValidRune(rune(v)) {
		return 0, g.fail("%q is not the number of a character", g.src[g.at:g.at+digits])
	}
	g.at += digits
	return rune(v), nil
}
