package main

import (
	"strings"
	"testing"

	"pumice"
	"pumice/tokenizer"
)

// Texts of tokens keep the space before a word, wherever they stand, and join to the answer.
func TestProbsSpellTokens(t *testing.T) {
	tok, err := tokenizer.Open(t.Context(), "../../tokenizer/testdata/xverse-a")
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode("one two three 你好", tokenizer.EncodeOptions{})
	var probs []*pumice.LogProb
	for _, id := range ids[1:] {
		p := pumice.TokenProb{ID: id, LogProb: -1}
		probs = append(probs, &pumice.LogProb{TokenProb: p, Top: []pumice.TokenProb{p}})
	}
	text := tok.Decode(ids[:1], false)
	for i, p := range spellProbs(tok, ids[:1], probs) {
		if p.ID != ids[1+i] || p.LogProb != -1 || len(p.Top) != 1 || p.Top[0].Text != p.Text {
			t.Errorf("token %d: %+v", i, p)
		}
		text += p.Text
	}
	if want := tok.Decode(ids, false); text != want || !strings.Contains(want, " two") {
		t.Errorf("%q, want %q", text, want)
	}
	end, ok := tok.EOS()
	if !ok {
		t.Fatal("no end token")
	}
	if got := spell(tok, ids[0], end); got != tok.Piece(end) {
		t.Errorf("the end token is %q", got)
	}
	if got := spellProbs(nil, []int{1}, probs)[0]; got.Text != "" || got.Top[0].Text != "" {
		t.Errorf("without a tokenizer: %+v", got)
	}
	if spellProbs(tok, nil, nil) != nil {
		t.Error("log-probabilities of nothing")
	}
}
