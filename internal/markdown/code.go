package markdown

import (
	"strings"
	"sync"

	"github.com/alecthomas/chroma/v2"
	"github.com/alecthomas/chroma/v2/lexers"
)

// highlight returns the lines of a program with its words in colours. It leaves a language that it doesn't know as it is.
func highlight(language, source string, base style) []line {
	lines := []line{nil}
	add := func(text string, s style) {
		for i, part := range strings.Split(text, "\n") {
			if i > 0 {
				lines = append(lines, nil)
			}
			if part != "" {
				lines[len(lines)-1] = lines[len(lines)-1].append(part, s)
			}
		}
	}
	lexer := lexerOf(language)
	if lexer == nil || source == "" {
		add(source, base)
		return lines
	}
	tokens, err := lexer.Tokenise(&chroma.TokeniseOptions{State: "root"}, source)
	if err != nil {
		add(source, base)
		return lines
	}
	for token := range tokens.Stdlib() {
		add(token.Value, styleOf(token.Type, base))
	}
	return lines
}

// found has the lexers of languages that were asked for, nil where there is none: to find that out takes milliseconds.
var found sync.Map

// maxLanguage is the longest name of a language that is looked for.
const maxLanguage = 32

func lexerOf(language string) chroma.Lexer {
	if language == "" || len(language) > maxLanguage {
		return nil
	}
	known, ok := found.Load(language)
	if !ok {
		known = lexers.Get(language)
		if l, ok := known.(chroma.Lexer); ok {
			known = chroma.Coalesce(l)
		}
		found.Store(language, known)
	}
	lexer, _ := known.(chroma.Lexer)
	return lexer
}

// styleOf is the style of a kind of token.
func styleOf(t chroma.TokenType, s style) style {
	switch {
	case t.InCategory(chroma.Comment):
		s.dim, s.italic = true, true
	case t == chroma.KeywordType || t == chroma.NameClass || t == chroma.NameBuiltin || t == chroma.NameTag:
		s.colour = cyan
	case t.InCategory(chroma.Keyword):
		s.colour = magenta
	case t.InSubCategory(chroma.LiteralString):
		s.colour = green
	case t.InCategory(chroma.Literal), t == chroma.NameConstant:
		s.colour = red
	case t == chroma.NameFunction || t == chroma.NameDecorator || t == chroma.NameAttribute:
		s.colour = blue
	}
	return s
}
