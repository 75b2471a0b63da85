package toolcall

// A grammar reads calls.
type grammar struct {
	// first reports whether calls may begin with a byte; line, whether only white space is before it in its line.
	first func(b byte, line bool) bool
	read  func(p *Parser) bool // reads one call, or several that belong together
}

var grammars = map[Syntax]grammar{
	Hermes:   {func(b byte, line bool) bool { return b == '<' || line && (b == '{' || b == '`') }, (*Parser).hermes},
	QwenXML:  {func(b byte, _ bool) bool { return b == '<' }, (*Parser).xmlCall},
	Llama3:   {func(b byte, line bool) bool { return b == '<' || line && (b == '{' || b == '[' || b == ';') }, (*Parser).llama3},
	Pythonic: {func(b byte, line bool) bool { return line && (b == '<' || b == '[') }, (*Parser).pythonic},
	Mistral:  {func(b byte, _ bool) bool { return b == '[' }, (*Parser).mistral},
	ChatGLM3: {func(b byte, line bool) bool { return b == '<' || line }, (*Parser).chatGLM3},
	JSON:     {func(b byte, line bool) bool { return line && (b == '{' || b == '[' || b == '`') }, (*Parser).generic},
}

func (p *Parser) hermes() bool {
	if b, _ := p.at(0); b != '<' {
		if !p.generic() {
			return false
		}
		p.closing("</tool_call>")
		return true
	}
	if !p.literal("<tool_call>") {
		return false
	}
	p.space()
	return p.list(false) && (p.closing("</tool_call>") || p.ended())
}

// closing reads white space and a closing mark.
func (p *Parser) closing(mark string) bool {
	p.space()
	return p.literal(mark)
}

// ended reports whether only white space is left. At the limit of a call it is not.
func (p *Parser) ended() bool {
	p.space()
	_, more := p.at(0)
	return !more && p.closed && p.pos == len(p.buf)
}

// list reads a call or a list of calls, each in JSON or, if python is set, in Python.
func (p *Parser) list(python bool) bool {
	if b, _ := p.at(0); b != '[' {
		return p.jsonCall()
	}
	n := 0
	return p.items('[', ']', maxDepth, func() bool {
		n++
		if b, _ := p.at(0); b == '{' || !python {
			return p.jsonCall()
		}
		name, ok := p.name()
		return ok && p.pythonCall(name)
	}) && n > 0
}

func (p *Parser) llama3() bool {
	tagged := p.literal("<|python_tag|>")
	if !tagged {
		p.next(';') // between calls
	}
	p.space()
	switch b, _ := p.at(0); {
	case b == '{' || b == '[':
		return p.list(true)
	case tagged:
		name, ok := p.name()
		return ok && p.literal(".call") && p.pythonCall(name)
	}
	return false
}

func (p *Parser) pythonic() bool {
	tagged := p.literal("<|python_start|>")
	p.space()
	if b, _ := p.at(0); b != '[' || !p.list(true) {
		return false
	}
	return !tagged || p.closing("<|python_end|>") || p.ended()
}

func (p *Parser) mistral() bool {
	if !p.literal("[TOOL_CALLS]") {
		return false
	}
	p.space()
	if b, _ := p.at(0); b == '{' || b == '[' {
		return p.list(false)
	}
	name, ok := p.name()
	if !ok {
		return false
	}
	var id string
	if p.literal("[CALL_ID]") {
		id = p.word()
	}
	p.literal("[ARGS]")
	p.space()
	return p.objectArguments(id, name)
}

func (p *Parser) chatGLM3() bool {
	if p.literal("<|assistant|>") {
		p.space()
	}
	name, ok := p.name()
	if !ok || !p.closing("```python") {
		return false
	}
	p.space()
	return p.literal("tool_call") && p.pythonCall(name) && (p.closing("```") || p.ended())
}

func (p *Parser) generic() bool {
	if !p.literal("```") {
		return p.list(false)
	}
	p.literal("json")
	p.space()
	return p.list(false) && (p.closing("```") || p.ended())
}
