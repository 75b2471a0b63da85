package server

import (
	"slices"
	"strings"

	"pumice/constrain"
)

// A constraint lets an answer reason, and perhaps write freely, before it has to fit a grammar. It implements
// pumice.Forcer.
type constraint struct {
	vocabulary *constrain.Vocabulary
	think      int                  // the token with which the answer may begin to reason by itself, or -1
	closing    string               // the mark that ends such reasoning
	free       []free               // what comes before the grammar, in turn
	matchers   []*constrain.Matcher // of grammars one of which the rest has to fit

	tail string   // the end of the free text, where its mark may have begun
	mask []uint32 // of one matcher
}

// A free is text that is free up to a mark.
type free struct {
	until  string
	mayEnd bool // the answer may end before the mark
	keep   bool // the mark belongs to what follows, else white space after it to the mark
}

// Mask implements pumice.Constraint.
func (c *constraint) Mask(mask []uint32) error {
	clear(mask)
	if len(c.free) > 0 {
		c.maskFree(mask)
		return nil
	}
	if c.mask == nil {
		c.mask = make([]uint32, len(mask))
	}
	for _, m := range c.matchers {
		if err := m.Mask(c.mask); err != nil {
			return err
		}
		for i, word := range c.mask {
			mask[i] |= word
		}
	}
	if c.think >= 0 {
		mask[c.think/32] |= 1 << (c.think % 32)
	}
	return nil
}

// Forced implements pumice.Forcer.
func (c *constraint) Forced() ([]int, error) {
	if len(c.free) > 0 || c.think >= 0 || len(c.matchers) != 1 {
		return nil, nil
	}
	return c.matchers[0].Forced()
}

// maskFree allows all tokens but those that end the text too early, or go on after the mark with what does not fit.
func (c *constraint) maskFree(mask []uint32) {
	for id := range c.vocabulary.Size() {
		mask[id/32] |= 1 << (id % 32)
	}
	f := c.free[0]
	if !f.mayEnd {
		for _, id := range c.vocabulary.Ends() {
			mask[id/32] &^= 1 << (id % 32)
		}
	}
	if !begun(c.tail, f.until) { // no token has a whole mark and more
		return
	}
	last := f.until[len(f.until)-1]
	for id := range c.vocabulary.Size() {
		if word := c.vocabulary.Token(id); strings.IndexByte(word, last) >= 0 && c.clone().read(c.tail+word) != nil {
			mask[id/32] &^= 1 << (id % 32)
		}
	}
}

// begun reports whether a text ends with the beginning of a mark.
func begun(text, mark string) bool {
	for n := 1; n < len(mark); n++ {
		if strings.HasSuffix(text, mark[:n]) {
			return true
		}
	}
	return false
}

func (c *constraint) clone() *constraint {
	x := *c
	x.matchers = nil
	for _, m := range c.matchers {
		x.matchers = append(x.matchers, m.Clone())
	}
	return &x
}

// Accept implements pumice.Constraint.
func (c *constraint) Accept(id int) error {
	if id == c.think {
		c.think, c.free = -1, slices.Concat([]free{{until: c.closing}}, c.free)
		return nil
	}
	c.think = -1
	if len(c.free) == 0 {
		return c.fit(func(m *constrain.Matcher) error { return m.Accept(id) })
	}
	return c.read(c.tail + c.vocabulary.Token(id))
}

// read takes note of text that is free up to the mark.
func (c *constraint) read(text string) error {
	f := c.free[0]
	i := strings.Index(text, f.until)
	if i < 0 {
		c.tail = text[max(0, len(text)-len(f.until)+1):]
		return nil
	}
	c.free, c.tail = c.free[1:], ""
	rest := text[i:]
	if !f.keep {
		rest = strings.TrimLeft(rest[len(f.until):], " \n\t\r")
	}
	if len(c.free) > 0 {
		return c.read(rest)
	}
	return c.fit(func(m *constrain.Matcher) error { return m.AcceptText(rest) })
}

// fit drops the matchers of grammars that the text does not fit. It is an error if none is left.
func (c *constraint) fit(accept func(m *constrain.Matcher) error) (err error) {
	var fitting []*constrain.Matcher
	for _, m := range c.matchers {
		if e := accept(m); e != nil {
			err = e
		} else {
			fitting = append(fitting, m)
		}
	}
	if len(fitting) == 0 {
		return err
	}
	c.matchers = fitting
	return nil
}
