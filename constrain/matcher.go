package constrain

import (
	"fmt"
	"slices"
)

// A Matcher says which tokens may follow a text, one token after another. It implements pumice's Constraint. Only one
// goroutine at a time may use a Matcher.
type Matcher struct {
	g     *Grammar
	m     *machine // that now belongs to
	now   config
	text  []byte
	ended bool
}

// Clone returns another Matcher at the same place.
func (m *Matcher) Clone() *Matcher {
	c := *m // a config is replaced, never changed
	c.text = slices.Clone(m.text)
	return &c
}

// machine returns the grammar's machine, which the caller has locked. One that has grown too large, or that has failed at
// another text, is replaced, and a text of another machine is read again.
func (m *Matcher) machine() (*machine, error) {
	g := m.g
	if g.m.err != nil || len(g.m.nodes) > g.maxNodes || g.m.searched > g.maxSteps {
		if err := g.build(); err != nil {
			return nil, err
		}
	}
	if m.m != g.m {
		var start config
		g.m.add(&start, g.m.start, nil)
		now, _ := g.m.read(start, m.text)
		if g.m.err != nil {
			return nil, g.m.err
		}
		m.m, m.now = g.m, now
	}
	return m.m, nil
}

// read is the readings of c that go on with text, and how many bytes of it they read.
func (m *machine) read(c config, text []byte) (config, int) {
	for i, b := range text {
		next := &m.reading[i%2] // the other one may be c
		m.stepConfig(next, c, b)
		if next.dead() || m.err != nil {
			return config{}, i
		}
		c = *next
	}
	c.threads = slices.Clone(c.threads)
	return c, len(text)
}

// Mask sets the bits of the tokens that may come next and clears all others: token i has bit i%32 of mask[i/32]. After each
// of them the grammar has a way to end. End tokens are among them where the text may end.
func (m *Matcher) Mask(mask []uint32) error {
	v := m.g.vocabulary
	if len(mask) < (v.size+31)/32 {
		return fmt.Errorf("constrain: a mask of %d words for %d tokens", len(mask), v.size)
	}
	clear(mask)
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	machine, err := m.machine()
	if err != nil {
		return err
	}
	if m.now.ends {
		for _, id := range v.ends {
			mask[id/32] |= 1 << (id % 32)
		}
	}
	if !m.ended {
		machine.mask(mask, m.now)
	}
	return machine.err
}

// mask sets the bits of the tokens that go on with c.
func (m *machine) mask(mask []uint32, c config) {
	m.walked = 0
	for _, t := range c.threads {
		s := m.stateMask(t.at)
		if s.free.chars > 0 {
			or(mask, m.vocabulary.ofKinds(s.free))
		}
		or(mask, s.dense)
		set(mask, s.sparse)
		if s.after == nil || t.up == nil {
			continue
		}
		var outside config
		m.add(&outside, t.up.then, t.up.up)
		set(mask, m.walk(s.after, outside, kindMask{}, nil))
	}
}

func or(mask, other []uint32) {
	for i, w := range other {
		mask[i] |= w
	}
}

// Accept takes note of the token that was chosen. A token that Mask does not allow is ErrNotAllowed, and changes nothing.
func (m *Matcher) Accept(id int) error {
	v := m.g.vocabulary
	if slices.Contains(v.ends, id) {
		if !m.MayEnd() {
			return fmt.Errorf("%w: end token %d", ErrNotAllowed, id)
		}
		m.ended = true
		return nil
	}
	if id < 0 || id >= v.size || v.tokens[id] == "" {
		return fmt.Errorf("%w: token %d", ErrNotAllowed, id)
	}
	return m.AcceptText(v.tokens[id])
}

// AcceptText takes note of text that was added without drawing a token, such as what Forced returned.
func (m *Matcher) AcceptText(text string) error {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	machine, err := m.machine()
	if err != nil {
		return err
	}
	now, n := machine.read(m.now, []byte(text))
	switch {
	case machine.err != nil:
		return machine.err
	case n < len(text) || m.ended && text != "":
		return fmt.Errorf("%w: byte %d of %.40q", ErrNotAllowed, n, text)
	}
	m.now = now
	m.text = append(m.text, text...)
	return nil
}

// MayEnd reports whether the text may end here.
func (m *Matcher) MayEnd() bool {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	_, err := m.machine()
	return err == nil && m.now.ends
}

// Ended reports whether an end token was accepted.
func (m *Matcher) Ended() bool { return m.ended }

// maxForced is the most bytes that Forced spells.
const maxForced = 4096

// Forced returns tokens that must follow, as far as only one text can; none where there is a choice or the text may end. It
// changes nothing. The tokens are the fewest that spell the text. Where one could be longer than the text that is forced, it
// and what follows are left to the model.
func (m *Matcher) Forced() ([]int, error) {
	text, err := m.forced()
	if err != nil {
		return nil, err
	}
	return m.g.vocabulary.spell(text), nil
}

// forced returns the bytes that must follow.
func (m *Matcher) forced() ([]byte, error) {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	machine, err := m.machine()
	if err != nil {
		return nil, err
	}
	var out []byte
	now := m.now
	for !m.ended && !now.ends && len(out) < maxForced {
		b, ok := machine.only(now)
		if !ok {
			break
		}
		now, _ = machine.read(now, []byte{b})
		out = append(out, b)
	}
	return out, machine.err
}

// only is the byte that must follow, if there is only one.
func (m *machine) only(c config) (byte, bool) {
	found := -1
	for _, t := range c.threads {
		classes := m.classesOf(t.at)
		for b, class := range classes.of {
			if !m.alphabet.has(byte(b)) || m.step(t.at, classes.reps[class]) == none {
				continue
			}
			if found >= 0 && found != b {
				return 0, false
			}
			found = b
		}
	}
	return byte(max(0, found)), found >= 0
}
