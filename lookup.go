package pumice

// closeCall is the smallest difference between the two largest logits that is safe from rounding. Evaluating tokens
// together instead of one by one changes the order of sums, and so how cached keys and values are rounded. That changes
// logits by less than 0.01 in models of known sizes, a fraction of this margin.
const closeCall = 0.0625

// lookup recognises a repetition by its last lookupMost tokens, or fewer, down to lookupLeast: that a single token
// repeats is mostly chance.
const (
	lookupMost  = 4
	lookupLeast = 2
)

// lookup guesses up to n tokens to follow: those that followed the last tokens where these occurred before. It prefers
// the longest match, and among equals the newest (Saxena 2023, prompt lookup decoding).
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
