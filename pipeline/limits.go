package pipeline

const (
	// MaxBurst is the largest Step.Burst. advance.comp calls it LOG.
	MaxBurst = 32
	// TopLogits is how many of the largest logits AdvanceDraw draws a token from. advance.comp calls it MAX_DRAW.
	TopLogits = 64
)

// MaxSequences is how many sequences, and how many rows of results of last tokens, a Step can have.
const MaxSequences = 16

// MaxAdjusted is how many tokens of a row an Adjust can change. adjust.comp calls it MAX_ADJUSTED.
const MaxAdjusted = 4096
