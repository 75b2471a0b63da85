package constrain

import "unicode/utf8"

// Where a grammar allows any text of some kinds of characters, as in most strings, nearly all tokens are allowed. They need no
// walk through the trie: this file finds which kinds an expression allows, and which tokens have no others.

// kinds is a set of kinds of characters.
type kinds uint16

const (
	lowerKind kinds = 1 << iota
	upperKind
	digitKind
	spaceKind
	minusKind
	underscoreKind
	dotKind
	markKind  // other marks of ASCII, but for quote and backslash
	wideKind  // what is not ASCII
	otherKind // control characters, quote, backslash, and bytes that are no character
)

// asciiKinds is the kind of each character of ASCII.
var asciiKinds = func() (table [utf8.RuneSelf]kinds) {
	for b := range table {
		switch {
		case 'a' <= b && b <= 'z':
			table[b] = lowerKind
		case 'A' <= b && b <= 'Z':
			table[b] = upperKind
		case '0' <= b && b <= '9':
			table[b] = digitKind
		case b < ' ' || b == '"' || b == '\\' || b == 0x7F:
			table[b] = otherKind
		default:
			table[b] = markKind
		}
	}
	table[' '], table['-'], table['_'], table['.'] = spaceKind, minusKind, underscoreKind, dotKind
	return table
}()

// anyLength is more characters than those of any token whose characters are counted.
const anyLength = 255

// A kindMask is the tokens of some kinds of characters, up to a number of them.
type kindMask struct {
	kinds kinds
	chars uint8
}

// kindsOf is the kinds and the number of the characters of a token.
func kindsOf(s string) kindMask {
	n := utf8.RuneCountInString(s)
	if n >= anyLength || !utf8.ValidString(s) {
		return kindMask{kinds: otherKind}
	}
	k := kindMask{chars: uint8(n)}
	for _, r := range s {
		if r < utf8.RuneSelf {
			k.kinds |= asciiKinds[r]
		} else {
			k.kinds |= wideKind
		}
	}
	return k
}

// maxKindMasks is how many masks of kinds are kept.
const maxKindMasks = 256

// ofKinds is the mask of the tokens that have characters of some kinds alone, and not too many.
func (v *Vocabulary) ofKinds(k kindMask) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if mask, ok := v.kinds[k]; ok {
		return mask
	}
	mask := make([]uint32, (v.size+31)/32)
	for id, of := range v.of {
		if of.kinds&^k.kinds == 0 && of.chars <= k.chars && v.tokens[id] != "" {
			mask[id/32] |= 1 << (id % 32)
		}
	}
	if len(v.kinds) >= maxKindMasks {
		clear(v.kinds)
	}
	v.kinds[k] = mask
	return mask
}

// A kindStep is the kinds of characters that may follow in an expression, whichever they are, and what follows then.
type kindStep struct {
	kinds kinds
	then  []kindThen
}

type kindThen struct {
	then  expr
	kinds kinds
}

// Bounds on looking ahead: characters, and expressions at each.
const (
	maxAhead   = 32
	maxAbreast = 4
)

// freely finds kinds of characters that may follow in e in any order, and up to how many of them.
func (m *machine) freely(e expr) kindMask {
	first := m.kindStep(e)
	free := kindMask{kinds: first.kinds}
	if free.kinds == 0 {
		return free
	}
	seen := map[expr]bool{e: true}
	level := []expr{e}
	for ; free.chars < maxAhead; free.chars++ {
		var next []expr
		for _, e := range level {
			step := m.kindStep(e)
			if free.kinds&^step.kinds != 0 {
				return free
			}
			for _, t := range step.then {
				if t.kinds&free.kinds != 0 && !seen[t.then] {
					seen[t.then] = true
					next = append(next, t.then)
				}
			}
		}
		if len(next) == 0 {
			free.chars = anyLength
			return free
		}
		if len(next) > maxAbreast {
			free.chars++
			return free
		}
		level = next
	}
	return free
}

// kindStep finds what follows each kind of character in e.
func (m *machine) kindStep(e expr) *kindStep {
	if s, ok := m.kindSteps[e]; ok {
		return s
	}
	s := &kindStep{kinds: otherKind - 1}
	then := map[expr]kinds{}
	for b, kind := range asciiKinds {
		if s.kinds&kind == 0 {
			continue
		}
		if d := m.step(e, byte(b)); d != none {
			then[d] |= kind
		} else {
			s.kinds &^= kind
		}
	}
	if !m.wideStep(e, then) {
		s.kinds &^= wideKind
	}
	for d, k := range then {
		s.then = append(s.then, kindThen{d, k})
	}
	m.kindSteps[e] = s
	return s
}

// wideStep adds what follows characters that are not ASCII. It returns false if one of them may not follow.
func (m *machine) wideStep(e expr, then map[expr]kinds) bool {
	type state struct {
		at     expr
		more   int  // bytes of the character
		lo, hi byte // the next one
	}
	seen := map[state]bool{}
	var stack []state
	for b := 0xC2; b <= 0xF4; b++ { // RFC 3629, section 4
		s := state{m.step(e, byte(b)), 1, 0x80, 0xBF}
		switch {
		case b >= 0xF0:
			s.more = 3
		case b >= 0xE0:
			s.more = 2
		}
		switch b {
		case 0xE0:
			s.lo = 0xA0
		case 0xED:
			s.hi = 0x9F
		case 0xF0:
			s.lo = 0x90
		case 0xF4:
			s.hi = 0x8F
		}
		if !seen[s] {
			seen[s] = true
			stack = append(stack, s)
		}
	}
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if s.at == none {
			return false
		}
		if s.more == 0 {
			then[s.at] |= wideKind
			continue
		}
		for b := int(s.lo); b <= int(s.hi); b++ {
			next := state{m.step(s.at, byte(b)), s.more - 1, 0x80, 0xBF}
			if !seen[next] {
				seen[next] = true
				stack = append(stack, next)
			}
		}
	}
	return true
}
