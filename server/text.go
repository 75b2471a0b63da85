package server

import (
	"encoding/json"
	"net/http"

	"pumice"
	"pumice/tokenizer"
)

// A tokenizeRequest is llama-server's, which has content, or vLLM's, which has a prompt.
type tokenizeRequest struct {
	Model string `json:"model"`

	Content      *string `json:"content"`
	AddSpecial   bool    `json:"add_special"`
	ParseSpecial *bool   `json:"parse_special"` // true unless it says otherwise
	WithPieces   bool    `json:"with_pieces"`

	Prompt           *string `json:"prompt"`
	AddSpecialTokens *bool   `json:"add_special_tokens"` // the same
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) error {
	var q tokenizeRequest
	tok, e, err := s.tokenizer(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	yes := true
	text, o := q.Content, tokenizer.EncodeOptions{AddSpecial: q.AddSpecial, ParseSpecial: yes}
	set(&o.ParseSpecial, q.ParseSpecial)
	if q.Prompt != nil {
		text, o = q.Prompt, tokenizer.EncodeOptions{AddSpecial: yes, ParseSpecial: yes}
		set(&o.AddSpecial, q.AddSpecialTokens)
	}
	if text == nil {
		return invalid("content", "there is neither content nor a prompt")
	}
	ids, err := tok.TryEncode(*text, o)
	if err != nil {
		return err
	}
	if ids == nil {
		ids = []int{}
	}
	switch {
	case q.Prompt != nil:
		reply(w, http.StatusOK, map[string]any{"tokens": ids, "count": len(ids), "max_model_len": e.Context()})
	case q.WithPieces:
		type piece struct {
			ID    int    `json:"id"`
			Piece string `json:"piece"`
		}
		pieces := []piece{}
		for i, id := range ids {
			before := -1
			if i > 0 {
				before = ids[i-1]
			}
			pieces = append(pieces, piece{id, spell(tok, before, id)})
		}
		reply(w, http.StatusOK, map[string]any{"tokens": pieces})
	default:
		reply(w, http.StatusOK, map[string]any{"tokens": ids})
	}
	return nil
}

func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model  string `json:"model"`
		Tokens []int  `json:"tokens"`
	}
	tok, e, err := s.tokenizer(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	for _, id := range q.Tokens {
		if id < 0 || id >= tok.VocabSize() {
			return invalid("tokens", "token %d; the tokenizer has 0 to %d", id, tok.VocabSize()-1)
		}
	}
	text := tok.Decode(q.Tokens, false)
	reply(w, http.StatusOK, map[string]string{"content": text, "prompt": text})
	return nil
}

// tokenizer decodes a request and finds the tokenizer of the model that it names.
func (s *Server) tokenizer(w http.ResponseWriter, r *http.Request, q any, name *string) (*tokenizer.Tokenizer, *use, error) {
	e, err := s.begin(w, r, q, name)
	if err != nil {
		return nil, nil, err
	}
	if e.Tokenizer() == nil {
		e.leave()
		return nil, nil, invalid("model", "the model has no tokenizer")
	}
	return e.Tokenizer(), e, nil
}

func (s *Server) applyTemplate(w http.ResponseWriter, r *http.Request) error {
	var q chatRequest
	e, c, err := s.beginConversation(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	p, err := c.prompt(r.Context(), e)
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, map[string]string{"prompt": e.Tokenizer().Decode(p.IDs, false)})
	return nil
}

// tokenizerInfo is vLLM's: the special tokens' texts and the chat template.
func (s *Server) tokenizerInfo(w http.ResponseWriter, r *http.Request) error {
	e, err := s.use(r, r.URL.Query().Get("model"))
	if err != nil {
		return err
	}
	defer e.leave()
	tok := e.Tokenizer()
	if tok == nil {
		return invalid("model", "the model has no tokenizer")
	}
	c := tok.Config()
	reply(w, http.StatusOK, map[string]any{"bos_token": orNull(c.BOSToken), "eos_token": orNull(c.EOSToken), "pad_token": orNull(c.PADToken),
		"unk_token": orNull(c.UNKToken), "chat_template": orNull(c.ChatTemplate), "vocab_size": tok.VocabSize()})
	return nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// An embeddingsRequest is the body of /v1/embeddings (OpenAI API reference, "Create embeddings").
type embeddingsRequest struct {
	Model      string          `json:"model"`
	Input      prompts         `json:"input"`
	Encoding   string          `json:"encoding_format"`
	Dimensions int             `json:"dimensions"`
	Normalize  json.RawMessage `json:"embd_normalize"` // llama-server's: -1 leaves the length as it is
}

type embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // numbers, or in base64 their float32, little-endian
}

func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) error {
	var q embeddingsRequest
	e, err := s.begin(w, r, &q, &q.Model)
	if err != nil {
		return err
	}
	defer e.leave()
	out, err := q.embed(r, e)
	if err != nil {
		return err
	}
	data, tokens := []embedding{}, 0
	for i, v := range out.Vectors {
		x := embedding{Object: "embedding", Index: i, Embedding: v}
		if q.Encoding == "base64" {
			x.Embedding = floatBytes(v)
		}
		data = append(data, x)
		tokens += out.Tokens[i]
	}
	reply(w, http.StatusOK, map[string]any{"object": "list", "model": e.model.Name, "data": data,
		"usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens}})
	return nil
}

func (q *embeddingsRequest) embed(r *http.Request, e *use) (pumice.Embeddings, error) {
	var none pumice.Embeddings
	if q.Encoding != "" && q.Encoding != "float" && q.Encoding != "base64" {
		return none, invalid("encoding_format", "encoding_format %q: want float or base64", q.Encoding)
	}
	o := pumice.EmbedOptions{Pooling: e.model.Pooling, Dimensions: q.Dimensions}
	if string(q.Normalize) == "-1" {
		o.Normalization = pumice.NormalizeNone
	}
	if len(q.Input) == 0 {
		return none, invalid("input", "there is no input")
	}
	texts := make([][]int, len(q.Input))
	for i, p := range q.Input {
		ids, err := p.tokens(e)
		if err != nil {
			return none, err
		}
		texts[i] = ids
	}
	return e.EmbedTokens(r.Context(), texts, o)
}
