package constrain

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// refused are the keywords that are not supported, with the reason. They are errors, since leaving one out would allow
// values that do not fit. Keywords that the standard does not have are annotations.
var refused = map[string]string{
	"contains":              "not supported",
	"dependencies":          "not supported; use dependentRequired",
	"additionalItems":       "not supported; use prefixItems and items",
	"unevaluatedItems":      "not supported beside other schemas for the same array; use items",
	"unevaluatedProperties": "not supported beside other schemas for the same object; use additionalProperties",
	"$dynamicRef":           "not supported; use $ref",
	"$recursiveRef":         "not supported; use $ref",
}

// shapeOf is the values that fit all schemas.
func (c *compiler) shapeOf(list group) (shape, error) {
	s := c.anyShape()
	for _, one := range list {
		t, err := c.shapeOfOne(one)
		if err != nil {
			return s, err
		}
		s = c.intersection(s, *t)
	}
	return s, c.err
}

// shapeOfOne is the values that fit a schema.
func (c *compiler) shapeOfOne(s *schema) (*shape, error) {
	if done, ok := c.shapes[s]; ok {
		if done == nil {
			return nil, bad(s, "$ref", "the schema refers to itself with no property or item between")
		}
		return done, nil
	}
	c.shapes[s] = nil
	out, err := c.shapeOfKeywords(s)
	if err != nil {
		delete(c.shapes, s)
		return nil, err
	}
	c.shapes[s] = &out
	return &out, c.err
}

func (c *compiler) shapeOfKeywords(s *schema) (shape, error) {
	switch {
	case s.not != nil:
		t, err := c.ofAnother(s.not, nil)
		if err != nil {
			return t, err
		}
		if t, err = c.complement(t); err != nil {
			return t, bad(s, "not", "%v", err)
		}
		return t, nil
	case s.isConst:
		return c.constant(s, s.value)
	case s.value.kind == trueValue:
		return c.anyShape(), nil
	case s.value.kind == falseValue:
		return noShape(), nil
	case s.value.kind != objectValue:
		return shape{}, bad(s, "", "a schema is an object or a boolean")
	}
	out := c.anyShape()
	for i, name := range s.value.names {
		v := s.value.items[i]
		if name != "$ref" && !c.counts(s) {
			continue
		}
		if why, ok := refused[name]; ok && !(strings.HasPrefix(name, "unevaluated") && (v.kind == trueValue || alone(s))) {
			return out, bad(s, name, "%s", why)
		}
		t, err := c.keyword(s, name, v)
		if err != nil {
			return out, err
		}
		out = c.intersection(out, t)
		if c.err != nil {
			return out, c.err
		}
	}
	t, err := c.arrayKeywords(s)
	if err != nil {
		return out, err
	}
	out = c.intersection(out, t)
	if t, err = c.objectKeywords(s); err != nil {
		return out, err
	}
	return c.intersection(out, t), c.err
}

// counts reports whether keywords count: beside a $ref, they do not in drafts before 2019-09.
func (c *compiler) counts(s *schema) bool { return c.siblings || s.value.get("$ref") == nil }

// alone reports whether no other schema looks at the same value as s. Then items and properties that are not evaluated are
// those that no keyword beside names.
func alone(s *schema) bool {
	return !slices.ContainsFunc(s.value.names, func(name string) bool {
		return slices.Contains([]string{"$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas"}, name)
	})
}

// keyword is the values that a keyword allows which looks at nothing beside it.
func (c *compiler) keyword(s *schema, name string, v *value) (out shape, err error) {
	out = c.anyShape()
	switch name {
	case "type":
		return c.types(s, v)
	case "const":
		return c.constant(s, v)
	case "enum":
		return c.enum(s, v)
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf":
		out.num, err = c.numberKeyword(s, name, v)
	case "minLength", "maxLength", "pattern", "format":
		out.str, err = c.stringKeyword(s, name, v)
	case "$ref":
		return c.ofAnother(c.resolve(s, v))
	case "not":
		return c.negated(s, name, v)
	case "if":
		return c.conditional(s, v)
	case "dependentSchemas":
		return c.dependent(s, v)
	case "allOf", "anyOf", "oneOf":
		return c.combined(s, name, v)
	}
	return out, err
}

// ofAnother is the values that fit another schema, if there is one.
func (c *compiler) ofAnother(s *schema, err error) (shape, error) {
	if err != nil {
		return shape{}, err
	}
	t, err := c.shapeOfOne(s)
	if err != nil {
		return shape{}, err
	}
	return *t, nil
}

// negated is the values that do not fit the schema in a keyword.
func (c *compiler) negated(s *schema, name string, v *value) (shape, error) {
	out, err := c.ofAnother(c.child(s, v, name), nil)
	if err != nil {
		return out, err
	}
	if out, err = c.complement(out); err != nil {
		return out, bad(s, name, "%v", err)
	}
	return out, nil
}

// conditional is the values that if, then and else allow: those that fit then, or not if; and else, or if.
func (c *compiler) conditional(s *schema, v *value) (shape, error) {
	out := c.anyShape()
	if then := s.value.get("then"); then != nil {
		t, err := c.ofAnother(c.child(s, then, "then"), nil)
		if err != nil {
			return out, err
		}
		not, err := c.negated(s, "if", v)
		if err != nil {
			return out, err
		}
		out = c.union2(t, not)
	}
	if otherwise := s.value.get("else"); otherwise != nil {
		t, err := c.ofAnother(c.child(s, otherwise, "else"), nil)
		if err != nil {
			return out, err
		}
		fits, err := c.ofAnother(c.child(s, v, "if"), nil)
		if err != nil {
			return out, err
		}
		out = c.intersection(out, c.union2(t, fits))
	}
	return out, nil
}

// dependent is the values that dependentSchemas allows: for each property, those without it, or that fit its schema.
func (c *compiler) dependent(s *schema, v *value) (shape, error) {
	out := c.anyShape()
	if v.kind != objectValue {
		return out, bad(s, "dependentSchemas", "must be an object")
	}
	for i, name := range v.names {
		t, err := c.ofAnother(c.child(s, v.items[i], "dependentSchemas", name), nil)
		if err != nil {
			return out, err
		}
		without := c.anyShape()
		without.objects = []*objectShape{withProperty(name, never)}
		out = c.intersection(out, c.union2(t, without))
	}
	return out, nil
}

func (c *compiler) types(s *schema, v *value) (shape, error) {
	list := []*value{v}
	if v.kind == arrayValue {
		list = v.items
	}
	out := noShape()
	for _, t := range list {
		of, ok := c.typed(t.text)
		if !ok || t.kind != stringValue {
			return out, bad(s, "type", "%q is not a type", t.text)
		}
		out = c.union2(out, of)
	}
	return out, nil
}

func (c *compiler) enum(s *schema, v *value) (shape, error) {
	out := noShape()
	if v.kind != arrayValue {
		return out, bad(s, "enum", "must be an array")
	}
	var nums, strs []expr // united at once, which is faster for many
	for i, item := range v.items {
		one, err := c.constant(&schema{value: item, pointer: s.pointer + "/enum/" + strconv.Itoa(i)}, item)
		if err != nil {
			return out, err
		}
		nums, strs = append(nums, one.num), append(strs, one.str)
		one.num, one.str = none, none
		out = c.union2(out, one)
	}
	out.num, out.str = c.union(nums...), c.union(strs...)
	return out, nil
}

// numberKeyword is the numbers that a keyword allows.
func (c *compiler) numberKeyword(s *schema, name string, v *value) (expr, error) {
	if v.kind != numberValue {
		return none, bad(s, name, "must be a number")
	}
	d, err := parseDecimal(v.text)
	if err != nil {
		return none, bad(s, name, "%s", because(err))
	}
	switch name {
	case "minimum", "exclusiveMinimum":
		return c.atLeast(d, name == "minimum"), nil
	case "maximum", "exclusiveMaximum":
		return c.atMost(d, name == "maximum"), nil
	}
	if d.negative || d.zero() {
		return none, bad(s, name, "must be greater than 0")
	}
	e, err := c.multipleOf(d)
	if err != nil {
		return none, bad(s, name, "%v", err)
	}
	return e, nil
}

// stringKeyword is the strings that a keyword allows, without their quotes.
func (c *compiler) stringKeyword(s *schema, name string, v *value) (expr, error) {
	switch name {
	case "minLength":
		n, err := c.size(s, name, v)
		return c.repeat(c.json(anyRune), n, -1), err
	case "maxLength":
		n, err := c.size(s, name, v)
		return c.repeat(c.json(anyRune), 0, n), err
	}
	if v.kind != stringValue {
		return none, bad(s, name, "must be a string")
	}
	if name == "pattern" {
		e, err := c.regex(v.text, c.json, open)
		if err != nil {
			return none, bad(s, name, "%s", because(err))
		}
		return e, nil
	}
	f, ok := formats[v.text]
	if !ok {
		return none, bad(s, name, "%q is not supported; these are: %s", v.text, strings.Join(slices.Sorted(maps.Keys(formats)), ", "))
	}
	return c.format(f)
}

// combined is the values that a list of schemas allows.
func (c *compiler) combined(s *schema, name string, v *value) (shape, error) {
	if v.kind != arrayValue || len(v.items) == 0 {
		return shape{}, bad(s, name, "must be an array of schemas")
	}
	var list []shape
	for i, item := range v.items {
		t, err := c.ofAnother(c.child(s, item, name, strconv.Itoa(i)), nil)
		if err != nil {
			return shape{}, err
		}
		list = append(list, t)
	}
	out := list[0]
	switch name {
	case "allOf":
		for _, t := range list[1:] {
			out = c.intersection(out, t)
		}
	case "anyOf":
		for _, t := range list[1:] {
			out = c.union2(out, t)
		}
	default:
		var err error
		if out, err = c.exactlyOne(list); err != nil {
			return out, bad(s, name, "an array or an object may fit two of the schemas, and %v", err)
		}
	}
	if len(out.arrays) > maxShapes || len(out.objects) > maxShapes {
		return out, bad(s, name, "more than %d alternatives of arrays or objects", maxShapes)
	}
	return out, nil
}

// typed is the values of a type.
func (c *compiler) typed(name string) (s shape, ok bool) {
	s = noShape()
	switch name {
	case "null":
		s.null = true
	case "boolean":
		s.no, s.yes = true, true
	case "integer":
		s.num = c.integers()
	case "number":
		s.num = c.decimals()
	case "string":
		s.str = c.anyString
	case "array":
		s.arrays = []*arrayShape{anyArray}
	case "object":
		s.objects = []*objectShape{anyObject}
	default:
		return s, false
	}
	return s, true
}

// constant is one value. at is its place.
func (c *compiler) constant(at *schema, v *value) (shape, error) {
	s := noShape()
	child := func(v *value, name string) group {
		return group{{value: v, pointer: at.pointer + "/const/" + escapePointer(name), isConst: true}}
	}
	switch v.kind {
	case nullValue:
		s.null = true
	case falseValue:
		s.no = true
	case trueValue:
		s.yes = true
	case numberValue:
		d, err := parseDecimal(v.text)
		if err != nil {
			return s, bad(at, "", "%s", because(err))
		}
		s.num = c.equal(d)
	case stringValue:
		s.str = c.strings([]string{v.text})
	case arrayValue:
		x := &arrayShape{min: len(v.items), max: len(v.items)}
		for i, item := range v.items {
			x.prefix = append(x.prefix, child(item, strconv.Itoa(i)))
		}
		s.arrays = []*arrayShape{x}
	case objectValue:
		part := objectPart{properties: map[string]group{}, additional: group{never}}
		x := &objectShape{max: -1}
		for i, name := range v.names {
			part.properties[name] = child(v.items[i], name)
			x.require(name)
		}
		x.parts = []objectPart{part}
		s.objects = []*objectShape{x}
	}
	return s, nil
}
