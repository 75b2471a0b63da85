package pumice

import (
	"context"

	"pumice/sample"
)

// PromptLookup is a Drafter that needs no model. It guesses that the text repeats itself: the tokens that follow are
// those that followed the last ones where these occurred before (Saxena 2023, prompt lookup decoding).
type PromptLookup struct{}

// Draft implements Drafter.
func (PromptLookup) Draft(_ context.Context, tokens []int, n int, _ sample.Params) ([]sample.Guess, error) {
	var guesses []sample.Guess
	for _, id := range lookup(tokens, n) {
		guesses = append(guesses, sample.Guess{ID: id})
	}
	return guesses, nil
}

// lookup recognises a repetition by its last lookupMost tokens, or fewer, down to lookupLeast: that a single token
// repeats is mostly chance.
const (
	lookupMost  = 4
	lookupLeast = 2
)

// lookup guesses up to n tokens to follow. It prefers the longest match, and among equals the newest.
func lookup(tokens []int, n int) []int {
	if n < 1 {
		return nil
	}
	best, length := 0, lookupLeast-1
	for end := len(tokens) - 1; end >= lookupLeast && length < lookupMost; end-- {
		same := 0
		for same < lookupMost && same < end && tokens[end-1-same] == tokens[len(tokens)-1-same] {
			same++
		}
		if same > length {
			best, length = end, same
		}
	}
	if length < lookupLeast {
		return nil
	}
	return tokens[best:min(best+n, len(tokens))]
}
