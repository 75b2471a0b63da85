package pumice

// closeCall is the least distance of the two largest logits that evaluating tokens together or one by one can't turn round. They
// differ in the order of sums and so in the rounding of what the cache holds: less than 0.01 for models of known sizes, which
// the margin exceeds several times.
const closeCall = 0.0625

// A repetition is recognised by its last lookupMost tokens, or fewer, down to lookupLeast: one alone is mostly chance.
const (
	lookupMost  = 4
	lookupLeast = 2
)

// lookup guesses up to n tokens that follow: those that followed the newest place where the last tokens have been before, for
// as many last tokens as possible (Saxena 2023, prompt lookup decoding).
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
