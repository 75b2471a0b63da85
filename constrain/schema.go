package constrain

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// SchemaOptions say how JSON is written. The zero value allows what pretty-printers and compact ones write.
type SchemaOptions struct {
	// Compact allows no white space between tokens, so that more of a text is determined.
	Compact bool

	// InOrder asks for properties in the order in which the schema names them, so that more of a text is determined.
	// Otherwise they may come in any order.
	InOrder bool

	// Closed keeps an object to the properties that its schema names, where it says nothing of others, as OpenAI's strict
	// schemas and llama.cpp do. Otherwise a text may have any others, and models do not always come to an end of them.
	Closed bool

	// Whole writes no fraction of zeros: 1 but not 1.0, which many programs don't take for an integer.
	Whole bool
}

// maxLooking is how deep required properties are looked into to tell two schemas of a oneOf apart.
const maxLooking = 4

// A compiler turns a JSON Schema into expressions.
type compiler struct {
	*arena
	SchemaOptions
	root      *value
	siblings  bool // keywords beside $ref count: not in drafts before 2019-09
	anyString expr

	schemas   map[string]*schema  // by pointer
	bases     map[string]*url.URL // by pointer, of schemas with an $id, and of the root
	resources map[string]*schema  // the same schemas by URI
	anchors   map[string]*schema  // by URI with fragment

	shapes    map[*schema]*shape // nil while it is being made
	negations map[*schema]*schema
	values    map[string]*valueRule // by the key of a group
	shared    map[expr]expr         // the rules of long expressions
	looking   int                   // how deep nothing looks now
}

// A valueRule is the values that fit some schemas. It becomes a rule of the arena when it is referred to.
type valueRule struct {
	expr expr
	done bool
	rule int
}

// schema is the texts of the JSON values that fit a schema.
func (a *arena) schema(source string, o SchemaOptions) (expr, error) {
	root, err := parseValue(source)
	if err != nil {
		return none, err
	}
	c := newCompiler(a, root, o)
	if err := c.prepare(); err != nil {
		return none, err
	}
	e, err := c.valueOf(group{c.at(root, "")})
	return e, cmp.Or(err, a.err)
}

func newCompiler(a *arena, root *value, o SchemaOptions) *compiler {
	a.whole = o.Whole
	return &compiler{arena: a, SchemaOptions: o, root: root, siblings: true, anyString: a.star(a.json(anyRune)),
		schemas: map[string]*schema{}, bases: map[string]*url.URL{}, resources: map[string]*schema{}, anchors: map[string]*schema{},
		shapes: map[*schema]*shape{}, negations: map[*schema]*schema{}, values: map[string]*valueRule{}, shared: map[expr]expr{}}
}

func (c *compiler) at(v *value, pointer string) *schema {
	s, ok := c.schemas[pointer]
	if !ok {
		s = &schema{value: v, pointer: pointer}
		c.schemas[pointer] = s
	}
	return s
}

// child is a schema in a keyword of another.
func (c *compiler) child(s *schema, v *value, path ...string) *schema {
	pointer := s.pointer
	for _, p := range path {
		pointer += "/" + escapePointer(p)
	}
	return c.at(v, pointer)
}

// bad is an error about a keyword.
func bad(s *schema, keyword, format string, args ...any) error {
	return &SchemaError{s.pointer, keyword, fmt.Sprintf(format, args...)}
}

// because is an error without what a SchemaError says too.
func because(err error) string {
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf("byte %d: %s", syntax.Offset, syntax.Msg)
	}
	return strings.TrimPrefix(err.Error(), "constrain: ")
}

// valueOf is the texts of the values that fit all schemas.
func (c *compiler) valueOf(list group) (expr, error) {
	key := list.key()
	if v := c.values[key]; v != nil {
		return c.refer(v), nil
	}
	if len(c.values) >= maxRules {
		return none, &LimitError{"combinations of schemas", maxRules}
	}
	v := &valueRule{rule: -1}
	c.values[key] = v
	s, err := c.shapeOf(list)
	if err != nil {
		return none, err
	}
	if v.expr, err = c.write(s, list); err != nil {
		return none, err
	}
	v.done = true
	if v.rule >= 0 {
		c.rules[v.rule] = v.expr
	}
	return c.refer(v), c.err
}

// refer is the expression of a value where it is used: short ones in place, others as rules, so that masks found in one place
// serve all.
func (c *compiler) refer(v *valueRule) expr {
	if v.done && (!c.is(v.expr, ruled|endless) || c.nodes[v.expr].kind == kindRule) {
		return v.expr
	}
	if v.rule < 0 {
		v.rule = c.rule()
		c.rules[v.rule] = v.expr
	}
	return c.ref(v.rule)
}

// share makes a rule of a long expression, so that masks found in one place serve all.
func (c *compiler) share(e expr) expr {
	if e == none || !c.is(e, ruled|endless) {
		return e
	}
	ref, ok := c.shared[e]
	if !ok {
		r := c.rule()
		c.rules[r] = e
		ref = c.ref(r)
		c.shared[e] = ref
	}
	return ref
}
