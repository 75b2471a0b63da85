package server

import (
	"net/http"

	"pumice/tokenizer"
)

// fimTexts are the special tokens of models that were trained to fill in the middle of a text (Bavarian et al. 2022,
// arXiv:2207.14255), those before the prefix, the suffix and the middle, as llama.cpp lists them.
var fimTexts = [][3]string{
	{"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}, // Qwen2.5-Coder
	{"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},       // StarCoder, Granite
	{"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},
	{"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"}, // DeepSeek-Coder
	{"▁<PRE>", "▁<SUF>", "▁<MID>"},                   // Code Llama
	{"<PRE>", "<SUF>", "<MID>"},
	{"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"}, // GLM-4
}

// fimEnds are tokens that end the middle besides the model's end tokens.
var fimEnds = []string{"<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|cursor|>", "▁<EOT>", "<EOT>"}

// infill is the prompt for what is between a prefix and a suffix. The texts of the request become no special tokens.
func infill(tok *tokenizer.Tokenizer, prefix, suffix string) ([]int, error) {
	if tok == nil {
		return nil, invalid("suffix", "the model has no tokenizer")
	}
	var ids [3]int
	found := false
	for _, texts := range fimTexts {
		found = true
		for i, text := range texts {
			id, ok := tok.TokenID(text)
			ids[i], found = id, found && ok
		}
		if found {
			break
		}
	}
	if !found {
		return nil, invalid("suffix", "the model has no tokens to fill in the middle of a text")
	}
	prompt, err := tok.TryEncode("", tokenizer.EncodeOptions{AddSpecial: true}) // BOS, where texts begin with it
	if err != nil {
		return nil, err
	}
	for i, text := range []string{prefix, suffix, ""} {
		part, err := tok.TryEncode(text, tokenizer.EncodeOptions{})
		if err != nil {
			return nil, err
		}
		prompt = append(append(prompt, ids[i]), part...)
	}
	return prompt, nil
}

// fimStops are the stop strings of a middle.
func fimStops(tok *tokenizer.Tokenizer) (stops []string) {
	for _, text := range fimEnds {
		if id, ok := tok.TokenID(text); ok && tok.IsSpecial(id) {
			stops = append(stops, text)
		}
	}
	return stops
}

// An infillRequest is the body of llama-server's /infill.
type infillRequest struct {
	llamaRequest
	Prefix string `json:"input_prefix"`
	Suffix string `json:"input_suffix"`
	Extra  []any  `json:"input_extra"`
}

// infill is llama-server's way to fill in the middle. A prompt, if there is one, begins the middle.
func (s *Server) infill(w http.ResponseWriter, r *http.Request) error {
	var q infillRequest
	e, err := s.begin(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	if len(q.Extra) > 0 {
		return invalid("input_extra", "input_extra is not supported")
	}
	tok := e.Tokenizer()
	ids, err := infill(tok, q.Prefix, q.Suffix)
	if err != nil {
		return err
	}
	for _, p := range q.Prompt {
		begun, err := tok.TryEncode(p.text, tokenizer.EncodeOptions{})
		if err != nil {
			return err
		}
		ids = append(append(ids, begun...), p.ids...)
	}
	q.Prompt = prompts{{ids: ids}}
	q.Stop = append(q.Stop, fimStops(tok)...)
	return s.complete(w, r, e, &q.llamaRequest)
}
