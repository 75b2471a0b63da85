package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/tokenizer"
)

// A tokenProb is a token of an answer in the output of --logprobs.
type tokenProb struct {
	candidate
	Top []candidate `json:"top"` // the likeliest tokens in its place, likeliest first
}

// A candidate is a token that may stand in a place of an answer.
type candidate struct {
	pumice.TokenProb
	Text string `json:"text"` // the token by itself, special tokens too; "" without a tokenizer
}

// checkLogProbs finds mistakes in --logprobs before a model is loaded.
func checkLogProbs(c *cli.Context) error {
	switch n := c.Int("logprobs"); {
	case !c.IsSet("logprobs"):
	case n < 0 || n > pumice.MaxTopLogProbs:
		return &usageError{fmt.Sprintf("--logprobs %d: want 0 to %d", n, pumice.MaxTopLogProbs)}
	case !c.Bool("json"):
		return &usageError{"--logprobs needs --json"}
	case c.Int("lookup") > 0:
		return &usageError{"--logprobs needs --lookup 0"}
	}
	return nil
}

// spellProbs adds the tokens' texts to the log-probabilities of the answer to a prompt. tok may be nil.
func spellProbs(tok *tokenizer.Tokenizer, prompt []int, probs []*pumice.LogProb) []tokenProb {
	if len(probs) == 0 {
		return nil
	}
	var list []tokenProb
	before := prompt[len(prompt)-1]
	for _, p := range probs {
		t := tokenProb{candidate{p.TokenProb, spell(tok, before, p.ID)}, []candidate{}}
		for _, q := range p.Top {
			t.Top = append(t.Top, candidate{q, spell(tok, before, q.ID)})
		}
		list = append(list, t)
		before = p.ID
	}
	return list
}

// spell returns the text of a token after another one: the first token of a text may lose a space.
func spell(tok *tokenizer.Tokenizer, before, id int) string {
	if tok == nil {
		return ""
	}
	return tok.After(before, id)
}
