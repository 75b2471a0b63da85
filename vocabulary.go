package pumice

import (
	"slices"

	"pumice/constrain"
)

// Vocabulary returns the model's tokens for package constrain, whose matchers are Constraints. A constrained text ends with
// one of the end tokens or with a special token that ends a turn of the chat format. Of other special tokens only those with
// the texts given may be written, and then GenerateOptions.SpecialTokens should spell them. Making a Vocabulary takes 0.1 s
// for 150,000 tokens, so callers keep it.
func (e *Engine) Vocabulary(special ...string) (*constrain.Vocabulary, error) {
	tok := e.text.tokenizer
	if tok == nil {
		return nil, &NoTokenizerError{e.model.source.Path}
	}
	ends := slices.Clone(e.endTokens)
	if e.format != nil {
		for _, stop := range e.format.Stop() {
			if id, ok := tok.TokenID(stop); ok && tok.IsSpecial(id) && !slices.Contains(ends, id) {
				ends = append(ends, id)
			}
		}
	}
	ends = slices.DeleteFunc(ends, func(id int) bool { return id >= e.vocab })
	tokens := make([]string, e.vocab) // the tokenizer may have a few more or fewer
	for id := range min(e.vocab, tok.VocabSize()) {
		if tok.IsSpecial(id) && !slices.Contains(special, tok.Piece(id)) {
			continue
		}
		if b, ok := tok.TokenBytes(id); ok {
			tokens[id] = string(b)
		}
	}
	return constrain.NewVocabulary(tokens, ends)
}
