package constrain

import "strconv"

// This file reads the keywords for arrays and objects, which look at each other.

// size reads a count.
func (c *compiler) size(s *schema, name string, v *value) (int, error) {
	if v.kind == numberValue {
		d, err := parseDecimal(v.text)
		if err == nil && d.fraction == "" && (!d.negative || d.zero()) {
			n, err := strconv.Atoi(d.whole)
			if err != nil || n > maxRepeats {
				return 0, bad(s, name, "at most %d is supported", maxRepeats)
			}
			return n, nil
		}
	}
	return 0, bad(s, name, "must be a whole number, 0 or more")
}

// sizes reads a lower and an upper bound, which is -1 if there is none.
func (c *compiler) sizes(s *schema, lower, upper string) (n, m int, err error) {
	m = -1
	if v := s.value.get(lower); v != nil {
		if n, err = c.size(s, lower, v); err != nil {
			return 0, 0, err
		}
	}
	if v := s.value.get(upper); v != nil {
		m, err = c.size(s, upper, v)
	}
	return n, m, err
}

// arrayKeywords is the values that the keywords for items allow.
func (c *compiler) arrayKeywords(s *schema) (shape, error) {
	out := c.anyShape()
	if !c.counts(s) {
		return out, nil
	}
	x := &arrayShape{}
	var err error
	if x.min, x.max, err = c.sizes(s, "minItems", "maxItems"); err != nil {
		return out, err
	}
	if v := s.value.get("prefixItems"); v != nil {
		if v.kind != arrayValue {
			return out, bad(s, "prefixItems", "must be an array of schemas")
		}
		for i, item := range v.items {
			x.prefix = append(x.prefix, group{c.child(s, item, "prefixItems", strconv.Itoa(i))})
		}
	}
	if v := s.value.get("items"); v != nil {
		if v.kind == arrayValue {
			return out, bad(s, "items", "an array is not supported; use prefixItems")
		}
		x.rest = group{c.child(s, v, "items")}
	} else if v := s.value.get("unevaluatedItems"); v != nil {
		x.rest = group{c.child(s, v, "unevaluatedItems")}
	}
	if v := s.value.get("uniqueItems"); v != nil && v.kind != falseValue && !(0 <= x.max && x.max <= 1) {
		return out, bad(s, "uniqueItems", "not supported")
	}
	switch {
	case x.max >= 0 && x.min > x.max:
		out.arrays = nil
	case len(x.prefix) > 0 || x.rest != nil || x.min > 0 || x.max >= 0:
		out.arrays = []*arrayShape{x}
	}
	return out, nil
}

// objectKeywords is the values that the keywords for properties allow.
func (c *compiler) objectKeywords(s *schema) (shape, error) {
	out := c.anyShape()
	if !c.counts(s) {
		return out, nil
	}
	x := &objectShape{}
	part := objectPart{properties: map[string]group{}}
	var err error
	if x.min, x.max, err = c.sizes(s, "minProperties", "maxProperties"); err != nil {
		return out, err
	}
	object := func(name string) (*value, error) {
		v := s.value.get(name)
		if v != nil && v.kind != objectValue {
			return nil, bad(s, name, "must be an object")
		}
		if v == nil {
			v = &value{kind: objectValue}
		}
		return v, nil
	}
	v, err := object("properties")
	if err != nil {
		return out, err
	}
	for i, name := range v.names {
		part.properties[name] = group{c.child(s, v.items[i], "properties", name)}
		x.know(name)
	}
	if v, err = object("patternProperties"); err != nil {
		return out, err
	}
	for i, pattern := range v.names {
		e, err := c.regex(pattern, c.json, open)
		if err != nil {
			return out, bad(s, "patternProperties", "%q: %s", pattern, because(err))
		}
		part.patterns = append(part.patterns, patternPart{e, group{c.child(s, v.items[i], "patternProperties", pattern)}})
	}
	if v := s.value.get("additionalProperties"); v != nil {
		part.additional = group{c.child(s, v, "additionalProperties")}
	} else if v := s.value.get("unevaluatedProperties"); v != nil {
		part.additional = group{c.child(s, v, "unevaluatedProperties")}
	}
	if v := s.value.get("required"); v != nil {
		names, err := strs(s, "required", v)
		if err != nil {
			return out, err
		}
		for _, name := range names {
			x.require(name)
		}
	}
	if v, err = object("dependentRequired"); err != nil {
		return out, err
	}
	for i, name := range v.names {
		names, err := strs(s, "dependentRequired", v.items[i])
		if err != nil {
			return out, err
		}
		x.need(name, names)
	}
	if v := s.value.get("propertyNames"); v != nil {
		t, err := c.shapeOfOne(c.child(s, v, "propertyNames"))
		if err != nil {
			return out, err
		}
		x.keys = []expr{t.str}
	}
	x.parts = []objectPart{part}
	switch {
	case x.max >= 0 && x.min > x.max:
		out.objects = nil
	case len(x.names) > 0 || len(part.patterns) > 0 || part.additional != nil || x.min > 0 || x.max >= 0 || x.keys != nil:
		out.objects = []*objectShape{x}
	}
	return out, nil
}

func strs(s *schema, name string, v *value) ([]string, error) {
	var out []string
	for _, item := range v.items {
		if item.kind != stringValue {
			break
		}
		out = append(out, item.text)
	}
	if v.kind != arrayValue || len(out) < len(v.items) {
		return nil, bad(s, name, "must be an array of strings")
	}
	return out, nil
}
