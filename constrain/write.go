package constrain

import "slices"

// This file writes shapes as expressions: the texts of their values.

// write is the texts of a shape.
func (c *compiler) write(s shape, list group) (expr, error) {
	var out []expr
	for _, w := range []struct {
		on   bool
		text string
	}{{s.null, "null"}, {s.no, "false"}, {s.yes, "true"}} {
		if w.on {
			out = append(out, c.literal(w.text))
		}
	}
	if s.num == c.decimals() {
		s.num = c.numbers()
	}
	out = append(out, c.share(s.num), c.share(c.concat(c.literal(`"`), s.str, c.literal(`"`))))
	for _, x := range s.arrays {
		e, err := c.array(x)
		if err != nil {
			return none, err
		}
		out = append(out, e)
	}
	for _, x := range s.objects {
		e, err := c.objectOf(x, list)
		if err != nil {
			return none, err
		}
		out = append(out, e)
	}
	return c.union(out...), nil
}

// space is white space where a line may break: none, a space, or a line break and the indentation of the next line.
func (c *compiler) space() expr {
	if c.Compact {
		return empty
	}
	var blank byteSet
	blank.add(' ', ' ')
	blank.add('\t', '\t')
	line := c.concat(c.optional(c.literal("\r")), c.literal("\n"), c.repeat(c.bytes(blank), 0, maxIndent))
	return c.union(empty, c.literal(" "), line)
}

// maxIndent is the most spaces and tabs that a line may start with.
const maxIndent = 64

func (c *compiler) comma() expr { return c.concat(c.literal(","), c.space()) }

func (c *compiler) colon() expr {
	if c.Compact {
		return c.literal(":")
	}
	return c.concat(c.literal(":"), c.optional(c.literal(" ")))
}

func (c *compiler) array(s *arrayShape) (expr, error) {
	closed := c.concat(c.space(), c.literal("]"))
	rest, err := c.valueOf(s.rest)
	if err != nil {
		return none, err
	}
	n := len(s.prefix)
	tail := none // after the first n items
	if s.max < 0 || n <= s.max {
		more := -1
		if s.max >= 0 {
			more = s.max - max(n, 1)
		}
		tail = c.repeat(c.concat(c.comma(), rest), max(0, s.min-max(n, 1)), more)
	}
	for i := n; i > 0; i-- { // tail is after the first i items
		if i < n {
			item, err := c.valueOf(s.prefix[i])
			if err != nil {
				return none, err
			}
			end := none
			if i >= s.min {
				end = empty
			}
			tail = c.union(end, c.concat(c.comma(), item, tail))
			if s.max >= 0 && i == s.max {
				tail = end
			}
		}
	}
	first := rest
	if n > 0 {
		if first, err = c.valueOf(s.prefix[0]); err != nil {
			return none, err
		}
	}
	var out []expr
	if s.min == 0 {
		out = append(out, closed)
	}
	if s.max != 0 {
		out = append(out, c.concat(c.space(), first, tail, closed))
	}
	return c.concat(c.literal("["), c.union(out...)), nil
}

// objectOf is the texts of an object that fits list; it is named in errors.
func (c *compiler) objectOf(s *objectShape, list group) (expr, error) {
	o := &object{min: s.min, max: s.max, ordered: c.InOrder, open: c.space(), comma: c.comma(), colon: c.colon(), end: c.space()}
	if len(s.names) > maxProperties {
		return none, &LimitError{"properties of an object", maxProperties}
	}
	index := map[string]int{}
	for i, name := range s.names {
		index[name] = i
		v, err := c.valueOf(c.property(s, name))
		if err != nil {
			return none, err
		}
		o.keys = append(o.keys, quoted(name))
		o.values = append(o.values, v)
		o.dead = append(o.dead, v == none)
	}
	for _, name := range s.required {
		o.needed = append(o.needed, index[name])
	}
	if len(s.needs) > 0 {
		o.needs = make([][]int, len(s.names))
		for name, needed := range s.needs {
			for _, other := range needed {
				o.needs[index[name]] = append(o.needs[index[name]], index[other])
			}
		}
	}
	if err := c.others(o, s); err != nil {
		return none, err
	}
	where := &schema{}
	if len(list) > 0 {
		where = list[0]
	}
	if s.needs != nil && s.min > 0 && s.max >= 0 {
		return none, bad(where, "dependentRequired", "not supported beside minProperties and maxProperties")
	}
	if len(o.others) > 0 && s.min > len(s.required)+1 {
		return none, bad(where, "minProperties", "at most %d is supported here: whether %d unnamed properties differ is not tracked",
			len(s.required)+1, s.min-len(s.required))
	}
	if !o.satisfiable() {
		return none, nil
	}
	return c.object(o), nil
}

// strings is the characters of strings, however they are written.
func (c *compiler) strings(list []string) expr {
	var out []expr
	for _, name := range list {
		e := empty
		for _, r := range slices.Backward([]rune(name)) {
			e = c.concat(c.json(runesOf(r)), e)
		}
		out = append(out, e)
	}
	return c.union(out...)
}

// maxProperties is how many properties of an object may have names.
const maxProperties = 1024

// maxPatterns is how many patterns of properties an object may have: which of them a name matches decides about its value.
const maxPatterns = 6

// silent reports whether an object's schemas name properties that are enough, and say nothing of others.
func (s *objectShape) silent() bool {
	return len(s.names) > 0 && s.min <= len(s.names) && s.keys == nil && !slices.ContainsFunc(s.parts, func(p objectPart) bool {
		return p.patterns != nil || p.additional != nil
	})
}

// others finds the kinds of unknown properties: by which patterns their names match.
func (c *compiler) others(o *object, s *objectShape) error {
	if c.Closed && s.silent() {
		return nil
	}
	var patterns []expr
	for _, p := range s.parts {
		for _, q := range p.patterns {
			if !slices.Contains(patterns, q.pattern) {
				patterns = append(patterns, q.pattern)
			}
		}
	}
	if len(patterns) > maxPatterns {
		return &LimitError{"patterns of properties", maxPatterns}
	}
	for matched := range 1 << len(patterns) {
		var schemas group
		for _, p := range s.parts {
			hit := false
			for _, q := range p.patterns {
				if matched>>slices.Index(patterns, q.pattern)&1 != 0 {
					schemas, hit = schemas.and(q.schema), true
				}
			}
			if !hit {
				schemas = schemas.and(p.additional)
			}
		}
		if slices.ContainsFunc(schemas, func(s *schema) bool { return s.value.kind == falseValue && !s.isConst && s.not == nil }) {
			continue
		}
		keys := append([]expr{c.anyString, c.not(c.strings(s.names))}, s.keys...)
		for i, p := range patterns {
			if matched>>i&1 != 0 {
				keys = append(keys, p)
			} else {
				keys = append(keys, c.not(p))
			}
		}
		key := c.both(keys...)
		if key == none {
			continue
		}
		value, err := c.valueOf(schemas)
		if err != nil {
			return err
		}
		if value == none {
			continue
		}
		o.others = append(o.others, other{c.share(c.concat(c.literal(`"`), key, c.literal(`"`))), value})
	}
	return c.err
}
