package constrain

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Grammar is a compiled grammar over a Vocabulary. It is safe for concurrent use: many Matchers share what it has found.
type Grammar struct {
	vocabulary *Vocabulary
	front      func(*arena) (expr, error)

	mu       sync.Mutex
	m        *machine
	maxNodes int // at which m is replaced
	maxSteps int // of searches, at which m is replaced
}

// build makes a machine that has found nothing yet.
func (g *Grammar) build() error {
	a := newArena(g.vocabulary.alphabet)
	start, err := g.front(a)
	if err != nil {
		return err
	}
	start = a.prune(start)
	if a.err != nil {
		return a.err
	}
	if start == none {
		return ErrNoText
	}
	g.m = newMachine(a, g.vocabulary, start)
	g.maxNodes, g.maxSteps = (len(a.nodes)+maxNodes)/2, (a.searched+maxSearch)/2
	return nil
}

// A keptGrammar is a Grammar and what it was made of.
type keptGrammar struct {
	source string
	g      *Grammar
}

// maxKept is how many Grammars a Vocabulary keeps. Each may take some 50 MB after long use.
const maxKept = 8

// compile makes a Grammar of what a front end makes of source, or returns the one that was made of it before.
func compile(v *Vocabulary, source string, front func(*arena) (expr, error)) (*Grammar, error) {
	if g := v.compiled(source); g != nil {
		return g, nil
	}
	g := &Grammar{vocabulary: v, front: front}
	if err := g.build(); err != nil {
		return nil, err
	}
	v.keep(keptGrammar{source, g})
	return g, nil
}

// compiled finds a Grammar that was compiled lately.
func (v *Vocabulary) compiled(source string) *Grammar {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.kept, func(k keptGrammar) bool { return k.source == source })
	if i < 0 {
		return nil
	}
	k := v.kept[i]
	v.kept = append(slices.Delete(v.kept, i, i+1), k)
	return k.g
}

// keep keeps a Grammar, in the place of the one that was used least lately.
func (v *Vocabulary) keep(k keptGrammar) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.kept) >= maxKept {
		v.kept = slices.Delete(v.kept, 0, 1)
	}
	v.kept = append(v.kept, k)
}

// CompileRegex compiles a regular expression, which must match the whole text. Its syntax is RE2's.
func CompileRegex(v *Vocabulary, pattern string) (*Grammar, error) {
	return compile(v, "regex "+pattern, func(a *arena) (expr, error) { return a.regex(pattern, a.utf8, edge) })
}

// CompileGBNF compiles a grammar in llama.cpp's GBNF. The text is what its rule root matches.
func CompileGBNF(v *Vocabulary, source string) (*Grammar, error) {
	return compile(v, "gbnf "+source, func(a *arena) (expr, error) { return a.gbnf(source) })
}

// CompileSchema compiles a JSON Schema of draft 2020-12. The text is a JSON value that fits it. What can't be honoured is a
// SchemaError.
func CompileSchema(v *Vocabulary, schema []byte, o SchemaOptions) (*Grammar, error) {
	source := string(schema)
	return compile(v, fmt.Sprintf("schema %+v %s", o, source), func(a *arena) (expr, error) { return a.schema(source, o) })
}

// CompileTools compiles the calls of one of several tools, or of up to MaxCalls of them.
func CompileTools(v *Vocabulary, tools []Tool, o ToolOptions) (*Grammar, error) {
	tools = slices.Clone(tools)
	var source strings.Builder
	fmt.Fprintf(&source, "tools %#v", o)
	for _, t := range tools {
		fmt.Fprintf(&source, " %q %q", t.Name, t.Parameters)
	}
	return compile(v, source.String(), func(a *arena) (expr, error) { return a.tools(tools, o) })
}

// Matcher starts a text.
func (g *Grammar) Matcher() *Matcher { return &Matcher{g: g} }
