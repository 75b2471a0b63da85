package constrain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A shape is a set of JSON values, by type. Shapes are closed under union and intersection, so anyOf and allOf are exact.
// Strings and numbers are sets of texts: each value is in one with all the ways to write it, or with none, so that their
// complements are exact too. Arrays and objects refer to schemas, which may refer back.
type shape struct {
	null, no, yes bool
	num           expr // without exponents
	str           expr // the characters between the quotes
	arrays        []*arrayShape
	objects       []*objectShape
}

// A schema is a place in a schema document, or what is made of one.
type schema struct {
	value   *value
	pointer string
	isConst bool    // its value is the only one that fits
	not     *schema // if not nil, it is what does not fit that schema
}

// key names a schema. Pointers are quoted: names of properties may have any character.
func (s *schema) key() string { return fmt.Sprintf("%q %t %t\n", s.pointer, s.isConst, s.not != nil) }

// A group is schemas that a value must fit all of.
type group []*schema

func (g group) key() string {
	var b strings.Builder
	for _, s := range g {
		b.WriteString(s.key())
	}
	return b.String()
}

// and is the schemas of both, in order.
func (g group) and(h group) group {
	switch {
	case len(g) == 0:
		return h
	case len(h) == 0:
		return g
	}
	out := slices.Concat(g, h)
	slices.SortFunc(out, func(x, y *schema) int { return strings.Compare(x.key(), y.key()) })
	return slices.CompactFunc(out, func(x, y *schema) bool { return x.key() == y.key() })
}

type arrayShape struct {
	prefix   []group
	rest     group
	min, max int // max -1 is without end
}

// at is the schemas of an item.
func (s *arrayShape) at(i int) group {
	if i < len(s.prefix) {
		return s.prefix[i]
	}
	return s.rest
}

type objectShape struct {
	parts    []objectPart
	names    []string // known properties
	required []string
	needs    map[string][]string
	keys     []expr // names are in all of these
	min, max int
}

// An objectPart is the properties of one schema. Its additional is for names that are neither its properties nor match its
// patterns.
type objectPart struct {
	properties map[string]group
	patterns   []patternPart
	additional group
}

type patternPart struct {
	pattern expr
	schema  group
}

var (
	anyArray  = &arrayShape{max: -1}
	anyObject = &objectShape{max: -1}
)

func (c *compiler) anyShape() shape {
	return shape{null: true, no: true, yes: true, num: c.decimals(), str: c.anyString,
		arrays: []*arrayShape{anyArray}, objects: []*objectShape{anyObject}}
}

func noShape() shape { return shape{num: none, str: none} }

func (c *compiler) union2(x, y shape) shape {
	s := shape{null: x.null || y.null, no: x.no || y.no, yes: x.yes || y.yes,
		num: c.union(x.num, y.num), str: c.union(x.str, y.str)}
	s.arrays = append(slices.Clone(x.arrays), y.arrays...)
	s.objects = append(slices.Clone(x.objects), y.objects...)
	if slices.Contains(s.arrays, anyArray) {
		s.arrays = []*arrayShape{anyArray}
	}
	if slices.Contains(s.objects, anyObject) {
		s.objects = []*objectShape{anyObject}
	}
	return s
}

func (c *compiler) intersection(x, y shape) shape {
	s := shape{null: x.null && y.null, no: x.no && y.no, yes: x.yes && y.yes,
		num: c.both(x.num, y.num), str: c.both(x.str, y.str)}
	if len(x.arrays)*len(y.arrays) > maxShapes || len(x.objects)*len(y.objects) > maxShapes {
		c.fail(&LimitError{"alternatives of arrays or objects", maxShapes})
		return s
	}
	for _, p := range x.arrays {
		for _, q := range y.arrays {
			if z := meetArrays(p, q); z.max < 0 || z.min <= z.max {
				s.arrays = append(s.arrays, z)
			}
		}
	}
	for _, p := range x.objects {
		for _, q := range y.objects {
			if len(p.parts)+len(q.parts) > maxShapes {
				c.fail(&LimitError{"schemas with properties of one object", maxShapes})
				return s
			}
			if z := meetObjects(p, q); z.max < 0 || z.min <= z.max {
				s.objects = append(s.objects, z)
			}
		}
	}
	return s
}

// lesser is the smaller of two upper bounds, of which -1 is none.
func lesser(x, y int) int {
	if x < 0 || y >= 0 && y < x {
		return y
	}
	return x
}

func meetArrays(x, y *arrayShape) *arrayShape {
	switch {
	case x == anyArray:
		return y
	case y == anyArray:
		return x
	}
	z := &arrayShape{rest: x.rest.and(y.rest), min: max(x.min, y.min), max: lesser(x.max, y.max)}
	for i := range max(len(x.prefix), len(y.prefix)) {
		z.prefix = append(z.prefix, x.at(i).and(y.at(i)))
	}
	return z
}

func meetObjects(x, y *objectShape) *objectShape {
	switch {
	case x == anyObject:
		return y
	case y == anyObject:
		return x
	}
	z := &objectShape{
		parts: slices.Concat(x.parts, y.parts), keys: slices.Concat(x.keys, y.keys), names: slices.Clone(x.names),
		required: slices.Clone(x.required), min: max(x.min, y.min), max: lesser(x.max, y.max),
	}
	for _, name := range y.names {
		z.know(name)
	}
	for _, name := range y.required {
		z.require(name)
	}
	for _, needs := range []map[string][]string{x.needs, y.needs} {
		for name, list := range needs {
			z.need(name, list)
		}
	}
	return z
}

func (s *objectShape) know(name string) {
	if !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
}

func (s *objectShape) require(name string) {
	s.know(name)
	if !slices.Contains(s.required, name) {
		s.required = append(s.required, name)
	}
}

func (s *objectShape) need(name string, list []string) {
	s.know(name)
	for _, other := range list {
		s.know(other)
	}
	s.needs = maps.Clone(s.needs)
	if s.needs == nil {
		s.needs = map[string][]string{}
	}
	s.needs[name] = slices.Concat(s.needs[name], list)
}

// property is the schemas of a known property.
func (c *compiler) property(s *objectShape, name string) group {
	text := strings.TrimSuffix(quoted(name), `"`)
	var list group
	for _, p := range s.parts {
		schemas, known := p.properties[name]
		for _, pattern := range p.patterns {
			if c.matches(pattern.pattern, text) {
				schemas, known = schemas.and(pattern.schema), true
			}
		}
		if !known {
			schemas = p.additional
		}
		list = list.and(schemas)
	}
	for _, keys := range s.keys {
		if !c.matches(keys, text) {
			list = list.and(group{never})
		}
	}
	return list
}

// never is the schema that nothing fits.
var never = &schema{value: &value{kind: falseValue}, pointer: "false"}

// matches reports whether a text is among those of e.
func (a *arena) matches(e expr, text string) bool {
	for _, b := range []byte(text) {
		if e = a.step(e, b); e == none {
			return false
		}
	}
	return a.is(e, nullable)
}

// negation is the schema that fits what s does not.
func (c *compiler) negation(s *schema) *schema {
	if s.not != nil {
		return s.not
	}
	n, ok := c.negations[s]
	if !ok {
		n = &schema{value: s.value, pointer: s.pointer, isConst: s.isConst, not: s}
		c.negations[s] = n
	}
	return n
}

// complement is the values that are not in s.
func (c *compiler) complement(s shape) (shape, error) {
	out := shape{null: !s.null, no: !s.no, yes: !s.yes, num: c.without(c.decimals(), s.num), str: c.without(c.anyString, s.str)}
	var err error
	if out.arrays, err = c.notArrays(s.arrays); err != nil {
		return out, err
	}
	out.objects, err = c.notObjects(s.objects)
	return out, err
}

// errNegation is an error about a keyword of arrays or objects whose complement is none of what other keywords can say.
func errNegation(keyword string) error {
	return fmt.Errorf("what does not fit a schema with %s can't be told", keyword)
}

// notArrays is the arrays that are in none of a list.
func (c *compiler) notArrays(list []*arrayShape) ([]*arrayShape, error) {
	out := []*arrayShape{anyArray}
	for _, x := range list {
		if x.rest != nil {
			return nil, errNegation("items")
		}
		var not []*arrayShape
		if x.min > 0 {
			not = append(not, &arrayShape{max: x.min - 1})
		}
		if x.max >= 0 {
			not = append(not, &arrayShape{min: x.max + 1, max: -1})
		}
		for i, schemas := range x.prefix {
			for _, s := range schemas {
				y := &arrayShape{prefix: make([]group, i+1), min: i + 1, max: -1}
				y.prefix[i] = group{c.negation(s)}
				not = append(not, y)
			}
		}
		out = c.intersection(shape{num: none, str: none, arrays: out}, shape{num: none, str: none, arrays: not}).arrays
	}
	return out, nil
}

// notObjects is the objects that are in none of a list.
func (c *compiler) notObjects(list []*objectShape) ([]*objectShape, error) {
	out := []*objectShape{anyObject}
	for _, x := range list {
		not, err := c.notObject(x)
		if err != nil {
			return nil, err
		}
		out = c.intersection(shape{num: none, str: none, objects: out}, shape{num: none, str: none, objects: not}).objects
	}
	return out, nil
}

func (c *compiler) notObject(x *objectShape) (not []*objectShape, err error) {
	switch {
	case x.keys != nil:
		return nil, errNegation("propertyNames")
	case x.needs != nil:
		return nil, errNegation("dependentRequired")
	}
	if x.min > 0 {
		not = append(not, &objectShape{max: x.min - 1})
	}
	if x.max >= 0 {
		not = append(not, &objectShape{min: x.max + 1, max: -1})
	}
	for _, name := range x.required {
		not = append(not, withProperty(name, never))
	}
	for _, p := range x.parts {
		switch {
		case p.patterns != nil:
			return nil, errNegation("patternProperties")
		case p.additional != nil:
			return nil, errNegation("additionalProperties")
		}
		for _, name := range slices.Sorted(maps.Keys(p.properties)) {
			for _, s := range p.properties[name] {
				y := withProperty(name, c.negation(s))
				y.require(name)
				not = append(not, y)
			}
		}
	}
	return not, nil
}

// withProperty is the objects of which a property, if it is there, fits a schema.
func withProperty(name string, s *schema) *objectShape {
	return &objectShape{parts: []objectPart{{properties: map[string]group{name: {s}}}}, names: []string{name}, max: -1}
}

// exactlyOne is the values that are in one of the shapes alone.
func (c *compiler) exactlyOne(list []shape) (shape, error) {
	one, more := noShape(), noShape()
	one.null, more.null = count(list, func(s shape) bool { return s.null })
	one.no, more.no = count(list, func(s shape) bool { return s.no })
	one.yes, more.yes = count(list, func(s shape) bool { return s.yes })
	out := shape{null: one.null, no: one.no, yes: one.yes}
	for i, s := range list {
		more.num = c.union(more.num, c.both(one.num, s.num))
		more.str = c.union(more.str, c.both(one.str, s.str))
		one.num, one.str = c.union(one.num, s.num), c.union(one.str, s.str)
		alone := shape{num: none, str: none, arrays: s.arrays, objects: s.objects}
		for j, t := range list {
			if i == j || c.disjoint(s, t) {
				continue
			}
			others, err := c.complement(t)
			if err != nil {
				return out, err
			}
			alone = c.intersection(alone, others)
		}
		out.arrays = append(out.arrays, alone.arrays...)
		out.objects = append(out.objects, alone.objects...)
	}
	out.num, out.str = c.without(one.num, more.num), c.without(one.str, more.str)
	return out, nil
}

// disjoint reports whether it is certain that no array and no object is in both.
func (c *compiler) disjoint(s, t shape) bool {
	for _, x := range s.arrays {
		for _, y := range t.arrays {
			if !c.disjointArrays(x, y) {
				return false
			}
		}
	}
	for _, x := range s.objects {
		for _, y := range t.objects {
			if !c.disjointObjects(x, y) {
				return false
			}
		}
	}
	return true
}

func (c *compiler) without(x, y expr) expr {
	if y == none {
		return x
	}
	return c.both(x, c.not(y))
}

func count(list []shape, f func(shape) bool) (one, more bool) {
	for _, s := range list {
		if f(s) {
			one, more = !one && !more, one || more
		}
	}
	return one, more
}

func (c *compiler) disjointArrays(x, y *arrayShape) bool {
	z := meetArrays(x, y)
	if z.max >= 0 && z.min > z.max {
		return true
	}
	for i := range min(z.min, len(z.prefix)+1) {
		if c.nothing(z.at(i)) {
			return true
		}
	}
	return false
}

func (c *compiler) disjointObjects(x, y *objectShape) bool {
	z := meetObjects(x, y)
	if z.max >= 0 && max(z.min, len(z.required)) > z.max {
		return true
	}
	return slices.ContainsFunc(z.required, func(name string) bool { return c.nothing(c.property(z, name)) })
}

// nothing reports whether it is certain that no value fits all schemas. Objects that need themselves are not looked into.
func (c *compiler) nothing(list group) bool {
	if c.looking >= maxLooking {
		return false
	}
	c.looking++
	defer func() { c.looking-- }()
	s, err := c.shapeOf(list)
	if err != nil {
		return false // it is reported where the schema is compiled
	}
	if s.null || s.no || s.yes || s.num != none || s.str != none {
		return false
	}
	return !slices.ContainsFunc(s.arrays, func(x *arrayShape) bool { return !c.disjointArrays(x, x) }) &&
		!slices.ContainsFunc(s.objects, func(x *objectShape) bool { return !c.disjointObjects(x, x) })
}
