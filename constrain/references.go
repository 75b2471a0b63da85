package constrain

import (
	"net/url"
	"strconv"
	"strings"
)

// This file finds what a $ref refers to.

// drafts are the dialects whose keywords mean the same, as far as they are supported; true ones ignore what is beside $ref.
var drafts = map[string]bool{
	"https://json-schema.org/draft/2020-12/schema": false,
	"https://json-schema.org/draft/2019-09/schema": false,
	"http://json-schema.org/draft-07/schema":       true,
	"http://json-schema.org/draft-06/schema":       true,
}

// prepare reads the dialect and finds what references may refer to.
func (c *compiler) prepare() error {
	if v := c.root.get("$schema"); v != nil {
		old, ok := drafts[strings.TrimSuffix(v.text, "#")]
		if !ok {
			return bad(c.at(c.root, ""), "$schema", "%q is not supported; draft 2020-12 is", v.text)
		}
		c.siblings = !old
	}
	if c.root.get("$id") == nil {
		c.bases[""], c.resources[""] = &url.URL{}, c.at(c.root, "")
	}
	return c.find(c.at(c.root, ""), &url.URL{})
}

// Where keywords have schemas.
const (
	isSchema = iota + 1
	isList
	isByName
)

var holders = map[string]int{
	"items": isSchema, "additionalProperties": isSchema, "propertyNames": isSchema, "not": isSchema, "unevaluatedItems": isSchema,
	"unevaluatedProperties": isSchema, "allOf": isList, "anyOf": isList, "oneOf": isList, "prefixItems": isList, "properties": isByName,
	"patternProperties": isByName, "$defs": isByName, "definitions": isByName, "dependentSchemas": isByName,
	"if": isSchema, "then": isSchema, "else": isSchema,
}

// find notes the identifiers and anchors of s and of the schemas in it. URIs are relative to base.
func (c *compiler) find(s *schema, base *url.URL) error {
	if id := s.value.get("$id"); id != nil {
		u, err := base.Parse(id.text)
		if err != nil || u.Fragment != "" || id.kind != stringValue {
			return bad(s, "$id", "%q is no URI without a fragment", id.text)
		}
		base = u
		c.bases[s.pointer] = base
		if c.resources[base.String()] != nil {
			return bad(s, "$id", "there are two schemas %q", base)
		}
		c.resources[base.String()] = s
	}
	if anchor := s.value.get("$anchor"); anchor != nil {
		name := base.String() + "#" + anchor.text
		if c.anchors[name] != nil {
			return bad(s, "$anchor", "there are two anchors %q", name)
		}
		c.anchors[name] = s
	}
	if s.value.kind != objectValue {
		return nil
	}
	for i, name := range s.value.names {
		v := s.value.items[i]
		how := holders[name]
		if how == isSchema {
			if err := c.find(c.child(s, v, name), base); err != nil {
				return err
			}
		}
		if how == isList && v.kind == arrayValue || how == isByName && v.kind == objectValue {
			for j, item := range v.items {
				key := strconv.Itoa(j)
				if how == isByName {
					key = v.names[j]
				}
				if err := c.find(c.child(s, item, name, key), base); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// base is the URI that references in a schema are relative to.
func (c *compiler) base(pointer string) *url.URL {
	for {
		if u := c.bases[pointer]; u != nil || pointer == "" {
			return u
		}
		pointer = pointer[:strings.LastIndexByte(pointer, '/')]
	}
}

// resolve finds what a $ref refers to.
func (c *compiler) resolve(s *schema, ref *value) (*schema, error) {
	u, err := c.base(s.pointer).Parse(ref.text)
	if err != nil || ref.kind != stringValue {
		return nil, bad(s, "$ref", "%q is no reference", ref.text)
	}
	fragment := u.Fragment
	u.Fragment, u.RawFragment = "", ""
	t := c.resources[u.String()]
	if t == nil {
		return nil, bad(s, "$ref", "%q is another document; only references within the schema are supported", ref.text)
	}
	if fragment != "" && fragment[0] != '/' {
		if t = c.anchors[u.String()+"#"+fragment]; t == nil {
			return nil, bad(s, "$ref", "there is no anchor %q", fragment)
		}
		return t, nil
	}
	v, pointer := t.value, t.pointer
	if fragment != "" {
		for part := range strings.SplitSeq(fragment[1:], "/") {
			part = unescapePointer(part)
			next := v.get(part)
			if i, err := strconv.Atoi(part); err == nil && v.kind == arrayValue && 0 <= i && i < len(v.items) {
				next, part = v.items[i], strconv.Itoa(i)
			}
			if next == nil {
				return nil, bad(s, "$ref", "%q refers to nothing", ref.text)
			}
			v, pointer = next, pointer+"/"+escapePointer(part)
		}
	}
	return c.at(v, pointer), nil
}
