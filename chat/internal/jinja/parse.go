package jinja

import (
	"strconv"
	"strings"
)

// parser turns tokens into statements, with jinja2's grammar and precedence.
type parser struct {
	budget
	lex   *lexer
	ahead []token // tokens read but not yet consumed
	line  int
	loops int
}

// at returns the line of an error.
func (p *parser) at() int {
	if p.lex != nil && p.lex.busy {
		return p.lex.line
	}
	return p.line
}

// look returns the i-th token from here.
func (p *parser) look(i int) token {
	for len(p.ahead) <= i {
		p.ahead = append(p.ahead, p.lex.next())
	}
	return p.ahead[i]
}

func (p *parser) peek() token { return p.look(0) }

func (p *parser) next() token {
	t := p.peek()
	p.line = t.line
	p.ahead = append(p.ahead[:0], p.ahead[1:]...)
	return t
}

func (p *parser) isOp(op string) bool     { t := p.peek(); return t.kind == kOp && t.s == op }
func (p *parser) isName(name string) bool { t := p.peek(); return t.kind == kName && t.s == name }

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.next()
		return true
	}
	return false
}

func (p *parser) wantOp(op string) {
	if !p.skipOp(op) {
		t := p.next()
		fail("want '%s', got %v", op, t)
	}
}

func (p *parser) wantName() string {
	t := p.next()
	if t.kind != kName {
		fail("want a name, got %v", t)
	}
	return t.s
}

func (p *parser) want(k kind) {
	if t := p.next(); t.kind != k {
		fail("want %v, got %v", token{kind: k}, t)
	}
}

// enter replaces budget.enter: a source may be nested less deeply than an evaluation.
func (p *parser) enter() {
	p.step(1)
	if p.depth++; p.depth > maxNesting {
		fail("nested too deeply: more than %d levels", maxNesting)
	}
}

// block reads statements up to a tag in ends, of which it reads and returns the name. If ends is empty, it reads to the
// end of the template.
func (p *parser) block(ends ...string) ([]stmt, string) {
	p.enter()
	defer func() { p.depth-- }()
	opened := p.line
	var body []stmt
	for {
		t := p.next()
		switch t.kind {
		case kEOF:
			if len(ends) > 0 {
				p.line = opened
				fail("no '{%% %s %%}' for the tag here", ends[len(ends)-1])
			}
			return body, ""
		case kData:
			body = append(body, &dataStmt{p.literal(t.s)})
		case kVarBegin:
			s := &outputStmt{line: t.line, x: p.tuple()}
			p.want(kVarEnd)
			body = append(body, s)
		case kBlockBegin:
			name := p.wantName()
			for _, e := range ends {
				if e == name {
					return body, name
				}
			}
			if s := p.statement(name, t.line); s != nil {
				body = append(body, s)
			}
		default:
			fail("unexpected %v", t)
		}
	}
}

func (p *parser) statement(name string, line int) stmt {
	switch name {
	case "if":
		s := &ifStmt{}
		for {
			s.lines = append(s.lines, p.line)
			s.conds = append(s.conds, p.tuple())
			p.want(kBlockEnd)
			body, end := p.block("elif", "else", "endif")
			s.bodies = append(s.bodies, body)
			if end == "else" {
				p.want(kBlockEnd)
				s.otherwise, end = p.block("endif")
			}
			if end == "endif" {
				p.want(kBlockEnd)
				return s
			}
		}
	case "for":
		s := &forStmt{line: line, target: p.target()}
		if !p.skipName("in") {
			fail("want 'in' after the loop's variable, got %v", p.peek())
		}
		s.list = p.tupleOf(p.orExpr)
		if p.skipName("if") {
			s.cond = p.expr()
		}
		if p.isName("recursive") {
			fail("recursive loops are not supported")
		}
		p.want(kBlockEnd)
		p.loops++
		var end string
		s.body, end = p.block("else", "endfor")
		p.loops--
		if end == "else" {
			p.want(kBlockEnd)
			s.otherwise, _ = p.block("endfor")
		}
		p.want(kBlockEnd)
		return s
	case "break", "continue":
		if p.loops == 0 {
			fail("'%s' outside a loop", name)
		}
		p.want(kBlockEnd)
		if name == "break" {
			return &jumpStmt{ctlBreak}
		}
		return &jumpStmt{ctlContinue}
	case "set":
		s := &setStmt{line: line, target: p.target()}
		if p.skipOp("=") {
			s.x = p.tuple()
			p.want(kBlockEnd)
			return s
		}
		s.filters = p.filters(nil)
		p.want(kBlockEnd)
		s.body, _ = p.scoped("endset")
		p.want(kBlockEnd)
		return s
	case "macro":
		s := &macroStmt{}
		s.name = p.wantName()
		s.params, s.defaults = p.params()
		p.want(kBlockEnd)
		s.body, _ = p.scoped("endmacro")
		if p.isName(s.name) {
			p.next()
		}
		p.want(kBlockEnd)
		return s
	case "filter":
		s := &filterStmt{line: line}
		s.x = p.filter(&holeExpr{})
		for p.skipOp("|") {
			s.x = p.filter(s.x)
		}
		p.want(kBlockEnd)
		s.body, _ = p.scoped("endfilter")
		p.want(kBlockEnd)
		return s
	case "with":
		s := &withStmt{line: line}
		for p.peek().kind != kBlockEnd {
			if len(s.names) > 0 {
				p.wantOp(",")
			}
			s.names = append(s.names, p.target())
			p.wantOp("=")
			s.values = append(s.values, p.expr())
		}
		p.want(kBlockEnd)
		s.body, _ = p.block("endwith")
		p.want(kBlockEnd)
		return s
	case "generation": // marks the assistant's text for training; renders as its content
		p.want(kBlockEnd)
		s := &withStmt{line: line}
		s.body, _ = p.block("endgeneration")
		p.want(kBlockEnd)
		return s
	case "include", "import", "from", "extends", "block":
		fail("'%s' is not allowed in a chat template", name)
	}
	fail("tag '%s' is not supported", name)
	return nil
}

// scoped is block for a body that can't contain break or continue of a surrounding loop.
func (p *parser) scoped(end string) ([]stmt, string) {
	loops := p.loops
	p.loops = 0
	defer func() { p.loops = loops }()
	return p.block(end)
}

func (p *parser) params() (names []string, defaults []expr) {
	p.wantOp("(")
	for !p.skipOp(")") {
		if len(names) > 0 {
			p.wantOp(",")
		}
		if len(names) == maxArguments {
			fail("more than %d parameters", maxArguments)
		}
		names = append(names, p.wantName())
		var d expr
		if p.skipOp("=") {
			d = p.expr()
		} else if len(defaults) > 0 && defaults[len(defaults)-1] != nil {
			fail("parameter '%s' without a default after one with", names[len(names)-1])
		}
		defaults = append(defaults, d)
	}
	return names, defaults
}

// target reads the target of a set or for: names, or one attribute of a namespace.
func (p *parser) target() *target {
	t := &target{}
	paren := p.skipOp("(")
	for {
		name := p.wantName()
		attr := ""
		if p.skipOp(".") {
			attr = p.wantName()
		}
		switch name {
		case "true", "false", "none", "True", "False", "None":
			fail("'%s' can't be assigned to", name)
		}
		t.names, t.attrs = append(t.names, name), append(t.attrs, attr)
		if !p.skipOp(",") {
			break
		}
		t.many = true
		if p.peek().kind != kName || p.isName("in") {
			break
		}
	}
	if paren {
		p.wantOp(")")
	}
	return t
}

// tuple reads an expression, or several separated by commas.
func (p *parser) tuple() expr { return p.tupleOf(p.expr) }

func (p *parser) tupleOf(element func() expr) expr {
	x := element()
	if !p.isOp(",") {
		return x
	}
	l := &listExpr{tuple: true, items: []expr{x}}
	for p.skipOp(",") {
		if t := p.peek(); t.kind == kVarEnd || t.kind == kBlockEnd || (t.kind == kOp && (t.s == ")" || t.s == "=")) {
			break
		}
		l.items = append(l.items, element())
	}
	return l
}

func (p *parser) expr() expr {
	p.enter()
	defer func() { p.depth-- }()
	x := p.orExpr()
	for p.skipName("if") {
		c := &condExpr{then: x, cond: p.orExpr()}
		if p.skipName("else") {
			c.otherwise = p.expr()
		}
		x = c
	}
	return x
}

func (p *parser) orExpr() expr {
	x := p.andExpr()
	for p.skipName("or") {
		x = &logicExpr{or: true, l: x, r: p.andExpr()}
	}
	return x
}

func (p *parser) andExpr() expr {
	x := p.notExpr()
	for p.skipName("and") {
		x = &logicExpr{l: x, r: p.notExpr()}
	}
	return x
}

func (p *parser) notExpr() expr {
	if p.isName("not") {
		p.enter()
		defer func() { p.depth-- }()
		p.next()
		return &notExpr{p.notExpr()}
	}
	return p.compare()
}

func (p *parser) compare() expr {
	x := p.sum()
	c := &compareExpr{first: x}
	for {
		t := p.peek()
		op := ""
		switch {
		case t.kind == kOp && (t.s == "==" || t.s == "!=" || t.s == "<" || t.s == "<=" || t.s == ">" || t.s == ">="):
			op = t.s
			p.next()
		case p.skipName("in"):
			op = "in"
		case p.isName("not") && p.look(1).kind == kName && p.look(1).s == "in":
			p.next()
			p.next()
			op = "not in"
		}
		if op == "" {
			break
		}
		c.ops = append(c.ops, op)
		c.rest = append(c.rest, p.sum())
	}
	if len(c.ops) == 0 {
		return x
	}
	return c
}

// binary reads a left-associative chain of operators.
func (p *parser) binary(operand func() expr, ops ...string) expr {
	x := operand()
	for {
		t := p.peek()
		found := false
		for _, op := range ops {
			found = found || (t.kind == kOp && t.s == op)
		}
		if !found {
			return x
		}
		p.next()
		x = &binaryExpr{op: t.s, l: x, r: operand()}
	}
}

func (p *parser) sum() expr     { return p.binary(p.concat, "+", "-") }
func (p *parser) product() expr { return p.binary(p.power, "*", "/", "//", "%") }
func (p *parser) power() expr   { return p.binary(func() expr { return p.unary(true) }, "**") }

func (p *parser) concat() expr {
	x := p.product()
	if !p.isOp("~") {
		return x
	}
	c := &concatExpr{parts: []expr{x}}
	for p.skipOp("~") {
		c.parts = append(c.parts, p.product())
	}
	return c
}

func (p *parser) unary(filtered bool) expr {
	p.enter()
	defer func() { p.depth-- }()
	var x expr
	switch {
	case p.skipOp("-"):
		x = &negExpr{p.unary(false)}
	case p.skipOp("+"):
		x = p.unary(false)
	default:
		x = p.primary()
	}
	x = p.postfix(x)
	if filtered {
		x = p.filters(x)
	}
	return x
}

func (p *parser) primary() expr {
	t := p.next()
	switch t.kind {
	case kName:
		switch t.s {
		case "true", "True":
			return constExpr{true}
		case "false", "False":
			return constExpr{false}
		case "none", "None":
			return constExpr{nil}
		}
		return &nameExpr{t.s}
	case kString:
		if p.peek().kind != kString {
			return constExpr{p.literal(t.s)}
		}
		s := p.builder()
		s.writeString(t.s)
		for p.peek().kind == kString {
			s.writeString(p.next().s)
		}
		return constExpr{s.text()}
	case kInt:
		n, err := strconv.ParseInt(t.s, 0, 64)
		if err != nil {
			if n, err = strconv.ParseInt(t.s, 10, 64); err != nil {
				fail("number %s out of range", quote(t.s))
			}
		}
		return constExpr{n}
	case kFloat:
		f, err := strconv.ParseFloat(t.s, 64)
		if err != nil {
			fail("number %s out of range", quote(t.s))
		}
		return constExpr{f}
	case kOp:
		switch t.s {
		case "(":
			if p.skipOp(")") {
				return &listExpr{tuple: true}
			}
			x := p.tuple()
			p.wantOp(")")
			return x
		case "[":
			l := &listExpr{}
			for !p.skipOp("]") {
				if len(l.items) > 0 {
					p.wantOp(",")
					if p.skipOp("]") {
						break
					}
				}
				l.items = append(l.items, p.expr())
			}
			return l
		case "{":
			d := &dictExpr{}
			for !p.skipOp("}") {
				if len(d.keys) > 0 {
					p.wantOp(",")
					if p.skipOp("}") {
						break
					}
				}
				d.keys = append(d.keys, p.expr())
				p.wantOp(":")
				d.values = append(d.values, p.expr())
			}
			return d
		}
	}
	fail("unexpected %v", t)
	return nil
}

func (p *parser) postfix(x expr) expr {
	for {
		switch {
		case p.skipOp("."):
			t := p.next()
			switch t.kind {
			case kName:
				x = &attrExpr{x: x, name: t.s}
			case kInt:
				n, err := strconv.ParseInt(t.s, 10, 64)
				if err != nil {
					fail("number %s out of range", quote(t.s))
				}
				x = &itemExpr{x: x, key: constExpr{n}}
			default:
				fail("want a name after '.', got %v", t)
			}
		case p.skipOp("["):
			x = p.subscript(x)
		case p.isOp("("):
			x = &callExpr{f: x, args: p.arguments()}
		default:
			return x
		}
	}
}

func (p *parser) subscript(x expr) expr {
	var from expr
	if !p.isOp(":") {
		from = p.expr()
		if p.skipOp("]") {
			return &itemExpr{x: x, key: from}
		}
	}
	s := &sliceExpr{x: x, from: from}
	p.wantOp(":")
	if !p.isOp(":") && !p.isOp("]") {
		s.to = p.expr()
	}
	if p.skipOp(":") && !p.isOp("]") {
		s.step = p.expr()
	}
	p.wantOp("]")
	return s
}

func (p *parser) arguments() arguments {
	var a arguments
	p.wantOp("(")
	for n := 0; !p.skipOp(")"); n++ {
		if n > 0 {
			p.wantOp(",")
			if p.skipOp(")") {
				break
			}
		}
		if n == maxArguments {
			fail("more than %d arguments", maxArguments)
		}
		if p.isOp("*") || p.isOp("**") {
			fail("'%s' arguments are not supported", p.peek().s)
		}
		if t := p.peek(); t.kind == kName && p.look(1).kind == kOp && p.look(1).s == "=" {
			p.next()
			p.next()
			a.names = append(a.names, t.s)
			a.named = append(a.named, p.expr())
			continue
		}
		if len(a.names) > 0 {
			fail("an argument without a name after one with")
		}
		a.list = append(a.list, p.expr())
	}
	return a
}

// filters reads the filters, tests and calls after an operand. x nil stands for the text of a block set.
func (p *parser) filters(x expr) expr {
	hole := x == nil
	if hole {
		x = &holeExpr{}
	}
	for {
		switch {
		case p.skipOp("|"):
			x = p.filter(x)
		case !hole && p.skipName("is"):
			x = p.test(x)
		case !hole && p.isOp("("):
			x = &callExpr{f: x, args: p.arguments()}
		default:
			return x
		}
	}
}

func (p *parser) filter(x expr) expr {
	name := p.dotted()
	f, ok := filters[name]
	if !ok {
		fail("filter '%s' is not supported", name)
	}
	fx := &filterExpr{name: name, f: f, x: x}
	if p.isOp("(") {
		fx.args = p.arguments()
	}
	return fx
}

func (p *parser) dotted() string {
	name := p.wantName()
	for p.skipOp(".") {
		if name += "." + p.wantName(); len(name) > maxName {
			fail("a name of more than %d bytes", maxName)
		}
	}
	return name
}

func (p *parser) test(x expr) expr {
	not := p.skipName("not")
	name := p.dotted()
	f, ok := tests[name]
	if !ok {
		fail("test '%s' is not supported", name)
	}
	tx := &testExpr{name: name, f: f, x: x, not: not}
	t := p.peek()
	switch {
	case p.isOp("("):
		tx.args = p.arguments()
	case t.kind == kString || t.kind == kInt || t.kind == kFloat || p.isOp("[") || p.isOp("{"),
		t.kind == kName && !strings.Contains(" else or and is if in not recursive ", " "+t.s+" "):
		p.enter()
		tx.args.list = []expr{p.postfix(p.primary())}
		p.depth--
	}
	return tx
}
