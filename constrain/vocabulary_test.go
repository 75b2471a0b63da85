package constrain

import (
	"slices"
	"testing"
)

func TestVocabulariesThatAreRefused(t *testing.T) {
	tokens := make([]string, 257)
	for b := range 256 {
		tokens[b] = string([]byte{byte(b)})
	}
	if _, err := NewVocabulary(tokens, []int{256}); err != nil {
		t.Fatal(err)
	}
	if _, err := NewVocabulary(tokens, []int{257}); err == nil {
		t.Error("an end token that is none is accepted")
	}
	if _, err := NewVocabulary(tokens, nil); err == nil {
		t.Error("no end token is accepted")
	}
	tokens['a'] = ""
	if _, err := NewVocabulary(tokens, []int{256}); err == nil {
		t.Error("no way to write the letter a is accepted")
	}
}

// TestBytesWithoutATokenAreNotWritten: a token is not allowed if only a byte that no token starts with may follow.
func TestBytesWithoutATokenAreNotWritten(t *testing.T) {
	tokens := make([]string, 128, 131)
	for b := range tokens {
		tokens[b] = string([]byte{byte(b)})
	}
	tokens = append(tokens, "", "é", "\xc3")
	v, err := NewVocabulary(tokens, []int{128})
	if err != nil {
		t.Fatal(err)
	}
	g, err := CompileRegex(v, "[aéè]b")
	if err != nil {
		t.Fatal(err)
	}
	mask := make([]uint32, 5)
	if err := g.Matcher().Mask(mask); err != nil {
		t.Fatal(err)
	}
	if got := allowed(mask); !slices.Equal(got, []int{'a'}) {
		t.Errorf("allowed %v, want only a: after C3 nothing can be written", got)
	}
}

func TestTokensOfTheSameBytesAreAllowedTogether(t *testing.T) {
	tokens := make([]string, 260)
	for b := range 256 {
		tokens[b] = string([]byte{byte(b)})
	}
	tokens[257], tokens[258] = "ab", "ab" // and 259 marks structure
	v, err := NewVocabulary(tokens, []int{256})
	if err != nil {
		t.Fatal(err)
	}
	g, err := CompileRegex(v, "a.*")
	if err != nil {
		t.Fatal(err)
	}
	m, mask := g.Matcher(), make([]uint32, (v.Size()+31)/32)
	for _, want := range [][]int{{'a', 257, 258}, nil} {
		if err := m.Mask(mask); err != nil {
			t.Fatal(err)
		}
		got := allowed(mask)
		if want != nil && !slices.Equal(got, want) {
			t.Errorf("allowed %v, want %v", got, want)
		}
		if slices.Contains(got, 259) {
			t.Error("a token without bytes is allowed")
		}
		if err := m.Accept(257); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Accept(256); err != nil {
		t.Fatal(err)
	}
	if err := m.Mask(mask); err != nil || !slices.Equal(allowed(mask), []int{256}) {
		t.Errorf("after the end %v is allowed (%v)", allowed(mask), err)
	}
	if err := m.Accept('b'); err == nil {
		t.Error("a token after the end is accepted")
	}
}

// TestForcedTextsAreSpelledInFewTokens: tokens that mark structure are not spelled in parts, and what a longer token may begin with
// is left.
func TestForcedTextsAreSpelledInFewTokens(t *testing.T) {
	tokens := make([]string, 257, 270)
	for b := range 256 {
		tokens[b] = string([]byte{byte(b)})
	}
	tokens = append(tokens, "\n</", "tool", "_call", "</tool_call>", "ab", "abc", "bcd", "d\"")
	v, err := NewVocabulary(tokens, []int{256})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"x", []string{"x"}},
		{"\n</tool_call>", []string{"\n", "</tool_call>"}},
		{"\n</toolx", []string{"\n</", "tool", "x"}},
		{"abcdx", []string{"abc", "d", "x"}},
		{"xab", []string{"x"}},
		{"x\n<", []string{"x"}},
		{"xabcd", []string{"x", "abc"}},
	} {
		var got []string
		for _, id := range v.spell([]byte(c.text)) {
			got = append(got, v.Token(id))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q is %q, want %q", c.text, got, c.want)
		}
	}
	none := &Vocabulary{trie: v.newTrie(nil)}
	if ids := none.spell([]byte("a")); ids != nil {
		t.Errorf("%v without tokens", ids)
	}
}
