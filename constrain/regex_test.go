package constrain

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"testing"
)

var patterns = []string{
	`a`, `abc|abd|ab`, `a*b+c?`, `(a|b)*abb`, `[a-c]{2,4}`, `[^a]b`, `.`, `(ab){0,3}c`, `\d+\.\d*`, `(?i)ab`, `a{3}`, `(a*)*b`, `(a?){5}a{5}`,
	`[éa]b`, `\w+@\w+`, `a\u0062c`, `\x{65e5}.`, `^ab$`, `^(a|^b)c$|d`, `(|a)b`, `\cJ|\u{62}`, `[[:alpha:]]b`, `(?:a|ab)(?:c|bcd)`, `a|\pL`,
	`[a-z ]{0,40}x`, `[A-Z][a-z]*`, `"[^"\\]{2,}"`, `([a-z]|[0-9]x)*`,
}

func TestRegexesMatchAsGoDoes(t *testing.T) {
	v := testVocabulary(t)
	rng := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("aabbccd01.@éA日\n^")
	for _, pattern := range patterns {
		whole, err := CompileRegex(v, pattern)
		if err != nil {
			t.Fatal(err)
		}
		some, err := compile(v, "anywhere "+pattern, func(a *arena) (expr, error) { return a.regex(pattern, a.utf8, open) })
		if err != nil {
			t.Fatal(err)
		}
		goPattern, _, err := fromECMA(pattern)
		if err != nil {
			t.Fatal(err)
		}
		wholeGo, someGo := regexp.MustCompile(`\A(?:`+goPattern+`)\z`), regexp.MustCompile(goPattern)
		for range 300 {
			text := make([]rune, rng.IntN(8))
			for i := range text {
				text[i] = alphabet[rng.IntN(len(alphabet))]
			}
			s := string(text)
			if got, want := accepts(t, whole, s), wholeGo.MatchString(s); got != want {
				t.Errorf("%s as a whole, %q: %t, want %t", pattern, s, got, want)
			}
			if got, want := accepts(t, some, s), someGo.MatchString(s); got != want {
				t.Errorf("%s anywhere, %q: %t, want %t", pattern, s, got, want)
			}
		}
	}
}

func TestRegexesThatAreRefused(t *testing.T) {
	v := testVocabulary(t)
	for _, c := range []struct {
		pattern string
		offset  int
	}{
		{`a(?=b)`, 1}, {`(a)\1`, 3}, {`a\b`, 0}, {`[a`, 0}, {`a{2000}`, 1}, {`x\uZZZZ`, 1}, {`(a$)b`, 0}, {`a^b`, 0}, {`(?m)^a`, 0}, {`ab(`, 0},
	} {
		_, err := CompileRegex(v, c.pattern)
		var e *SyntaxError
		if !errors.As(err, &e) || e.Offset != c.offset {
			t.Errorf("%s: got %v, want an error at byte %d", c.pattern, err, c.offset)
		}
	}
	if _, err := CompileRegex(v, `[^\x{0}-\x{10FFFF}]`); !errors.Is(err, ErrNoText) {
		t.Errorf("a class without characters: got %v", err)
	}
}
