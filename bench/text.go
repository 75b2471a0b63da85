package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"

	"pumice"
	"pumice/tokenizer"
)

//go:embed text/english.txt
var english string

//go:embed text/chinese.txt
var chinese string

// BuiltInText is what prompts are cut from where the caller has no text: prose, a recipe, a dialogue, code and numbers in English,
// and much the same in Chinese. It is a few thousand tokens long, and longer prompts repeat it.
var BuiltInText = english + "\n" + chinese

// tokenize returns the tokens of a text, without those that begin one. "" has none.
func tokenize(e *pumice.Engine, text string) ([]int, error) {
	if text == "" {
		return nil, nil
	}
	tok := e.Tokenizer()
	if tok == nil {
		return nil, fmt.Errorf("bench: a text needs a tokenizer, which %s has not", e.Source().Path)
	}
	tokens, err := tok.TryEncode(text, tokenizer.EncodeOptions{})
	if err == nil && len(tokens) == 0 {
		err = errors.New("the text has no tokens")
	}
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return tokens, nil
}

// promptTokens are n tokens of a text from a place on that rng chooses, again from its beginning after its end. The first one is
// any token, so that no two prompts begin alike and nothing of one is in the cache for another. Of no text all are any tokens.
func promptTokens(rng *rand.Rand, text []int, n, vocab int) []int {
	if len(text) == 0 {
		return randomTokens(rng, n, vocab)
	}
	tokens := make([]int, n)
	from := rng.IntN(len(text))
	for i := range tokens {
		tokens[i] = text[(from+i)%len(text)]
	}
	tokens[0] = rng.IntN(vocab)
	return tokens
}

func randomTokens(rng *rand.Rand, n, vocab int) []int {
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = rng.IntN(vocab)
	}
	return tokens
}
