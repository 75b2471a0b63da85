package constrain

import "slices"

// A machine reads texts of a grammar. It is a pushdown automaton that follows all readings at once: a reading is an
// expression within a rule, and the stack of what follows in the rules around it. Automata of expressions, and masks, are
// made as texts reach them, and kept.
type machine struct {
	*arena
	vocabulary *Vocabulary
	start      expr
	masks      map[expr]*stateMask
	maskBytes  int
	kindSteps  map[expr]*kindStep

	// Working memory of read and walk.
	reading [2]config
	steps   []walkStep // by depth
	found   []int32
	walked  int // steps of walk for one mask
}

func newMachine(a *arena, v *Vocabulary, start expr) *machine {
	return &machine{arena: a, vocabulary: v, start: start, masks: map[expr]*stateMask{}, kindSteps: map[expr]*kindStep{}}
}

// A frame is what follows a rule that is being read. Frames are shared and never changed.
type frame struct {
	then expr
	up   *frame
	hash uint64 // of then and all above
}

func push(then expr, up *frame) *frame {
	if then == empty { // a call at the end: the callee returns to where the caller would
		return up
	}
	hash := uint64(then)
	if up != nil {
		hash += up.hash * 0x9E3779B97F4A7C15
	}
	return &frame{then, up, hash}
}

func (f *frame) equal(g *frame) bool {
	for f != g {
		if f == nil || g == nil || f.hash != g.hash || f.then != g.then {
			return false
		}
		f, g = f.up, g.up
	}
	return true
}

// A thread is one reading.
type thread struct {
	at expr
	up *frame // nil below the first expression
}

// A config is all readings of a text so far. It is closed: where a reading may enter or leave a rule, that reading is there
// too.
type config struct {
	threads []thread
	ends    bool // a reading has come to the end of the first expression
}

func (c config) dead() bool { return len(c.threads) == 0 && !c.ends }

// add adds a reading, and those that come of it by entering and leaving rules.
func (m *machine) add(c *config, at expr, up *frame) {
	for _, t := range c.threads {
		if t.at == at && t.up.equal(up) {
			return
		}
	}
	if len(c.threads) >= maxThreads {
		m.fail(&LimitError{"readings of an ambiguous text", maxThreads})
		return
	}
	c.threads = append(c.threads, thread{at, up})
	if !m.is(at, nullable|calls) {
		return
	}
	if m.is(at, nullable) {
		if up == nil {
			c.ends = true
		} else {
			m.add(c, up.then, up.up)
		}
	}
	for _, call := range m.callsFrom(at) {
		m.add(c, m.rules[call.rule], push(call.then, up))
	}
}

// stepConfig sets to to the readings of c that go on with b. Both must not share memory.
func (m *machine) stepConfig(to *config, c config, b byte) {
	to.threads, to.ends = to.threads[:0], false
	for _, t := range c.threads {
		if at := m.step(t.at, b); at != none {
			m.add(to, at, t.up)
		}
	}
}

// A stateMask is which tokens may come in an expression, whatever is around it.
type stateMask struct {
	free   kindMask // these
	dense  []uint32 // and these
	sparse []int32  // and these
	after  *trie    // what follows in tokens that leave the expression; the stack decides about those
}

// stateMask finds the mask of an expression: it walks the trie of the vocabulary with an unknown stack, and notes where a
// token leaves the expression with bytes to go (Dong et al. 2024, "XGrammar", arXiv:2411.15100, sec. 3.1).
func (m *machine) stateMask(at expr) *stateMask {
	if s, ok := m.masks[at]; ok {
		return s
	}
	v := m.vocabulary
	s := &stateMask{free: m.freely(at)}
	var left []int32
	tokens := m.walk(v.trie, config{threads: []thread{{at, nil}}}, s.free, &left)
	size := 200
	if len(tokens) > v.size/32 { // as many bytes as the whole mask
		s.dense = make([]uint32, (v.size+31)/32)
		set(s.dense, tokens)
		size += 4 * len(s.dense)
	} else {
		s.sparse = slices.Clone(tokens)
		size += 4 * len(tokens)
	}
	if len(left) > 0 {
		s.after = v.trie.suffixes(left)
		size += 17*s.after.len() + 4*len(s.after.tokens)
	}
	if m.err != nil {
		return s
	}
	if m.maskBytes += size; m.maskBytes > maxMasks {
		clear(m.masks)
		m.maskBytes = size
	}
	m.masks[at] = s
	return s
}

func set(mask []uint32, tokens []int32) {
	for _, id := range tokens {
		mask[id/32] |= 1 << (id % 32)
	}
}

// A walkStep is the readings at a node of a trie. Most often there is one, which has entered no rule and can't leave its own.
type walkStep struct {
	one  thread // if one.at is not 0
	many config
}

// walk follows the texts of a trie from c, and returns the tokens that are allowed, which are valid until the next call. It
// adds the nodes where the first expression may end, and tokens go on, to left, if that is not nil. Tokens of the kinds in
// free are known to be allowed.
func (m *machine) walk(t *trie, c config, free kindMask, left *[]int32) []int32 {
	for len(m.steps) <= t.height {
		m.steps = append(m.steps, walkStep{})
	}
	steps := m.steps
	steps[0].one = thread{}
	steps[0].many.threads = append(steps[0].many.threads[:0], c.threads...)
	if len(c.threads) == 1 {
		steps[0].one = c.threads[0]
	}
	m.found = m.found[:0]
	for i := 1; i < t.len(); {
		if free.chars > 0 && t.kinds[i]&^free.kinds == 0 && t.chars[i] <= free.chars {
			i = int(t.end[i])
			continue
		}
		if m.walked++; m.walked > maxWalk {
			m.fail(&LimitError{"steps to find a mask", maxWalk})
			return nil
		}
		from, to := &steps[t.depth[i]-1], &steps[t.depth[i]]
		to.many.ends = false
		if one := from.one; one.at == 0 {
			to.one = thread{}
			m.walked += len(from.many.threads)
			m.stepConfig(&to.many, from.many, t.byte[i])
		} else if at := m.step(one.at, t.byte[i]); at == none || !m.is(at, nullable|calls) {
			to.one = thread{at, one.up}
		} else {
			to.one = thread{}
			to.many.threads = to.many.threads[:0]
			m.add(&to.many, at, one.up)
		}
		if to.one.at == none || to.one.at == 0 && to.many.dead() {
			i = int(t.end[i])
			continue
		}
		m.found = append(m.found, t.tokens[t.first[i]:t.first[i+1]]...)
		if to.many.ends && left != nil && int(t.end[i]) > i+1 {
			*left = append(*left, int32(i))
		}
		i++
	}
	return m.found
}
