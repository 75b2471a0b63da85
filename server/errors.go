package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"pumice"
	"pumice/chat"
	"pumice/constrain"
	"pumice/sample"
)

// A requestError is what a client gets instead of an answer.
type requestError struct {
	Code    int    `json:"code"` // of HTTP
	Type    string `json:"type"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"` // the field that is wrong

	// Of a prompt that the context can't hold.
	PromptTokens int `json:"n_prompt_tokens,omitempty"`
	Context      int `json:"n_ctx,omitempty"`
}

func (e *requestError) Error() string { return e.Message }

// invalid is the error of a request that asks for something impossible. param names its field, or is "".
func invalid(param, format string, args ...any) error {
	return &requestError{Code: http.StatusBadRequest, Type: "invalid_request_error", Message: fmt.Sprintf(format, args...), Param: param}
}

// tooLong is the error of a prompt that the context can't hold, in the words that clients look for: llama-server's and
// OpenAI's.
func tooLong(tokens, context int) error {
	return &requestError{
		Code: http.StatusBadRequest, Type: "exceed_context_size_error", PromptTokens: tokens, Context: context,
		Message: fmt.Sprintf("request (%d tokens) exceeds the available context size (%d tokens), try increasing it. "+
			"This model's maximum context length is %d tokens.", tokens, context, context),
	}
}

// explain is what a client is told of an error. Only errors that are about the request are told in full: others may name
// files.
func explain(err error) *requestError {
	var own *requestError
	var prompt *pumice.PromptError
	var option *pumice.OptionError
	var token *pumice.TokenError
	var param *sample.ParamError
	var format *chat.NoFormatError
	var refused *chat.Error
	var part *chat.PartError
	var noTools *chat.NoToolsError
	var template *chat.TemplateError
	var limit *constrain.LimitError
	var tokenizer *pumice.NoTokenizerError
	var body *http.MaxBytesError
	bad := func(message string) *requestError {
		return &requestError{Code: http.StatusBadRequest, Type: "invalid_request_error", Message: message}
	}
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &prompt):
		return tooLong(prompt.Tokens, prompt.Context).(*requestError)
	case errors.As(err, &body):
		return &requestError{Code: http.StatusRequestEntityTooLarge, Type: "invalid_request_error",
			Message: fmt.Sprintf("the request has more than %d bytes", body.Limit)}
	case errors.As(err, &option), errors.As(err, &token), errors.As(err, &param), errors.As(err, &refused), errors.As(err, &part),
		errors.As(err, &noTools), errors.As(err, &limit), errors.Is(err, pumice.ErrEmptyPrompt), errors.Is(err, pumice.ErrEncoder):
		return bad(err.Error())
	case errors.As(err, &template) && template.Raised: // the template refuses the conversation
		return bad(err.Error())
	case errors.As(err, &format):
		return bad("the model has no chat format: use /v1/completions")
	case errors.As(err, &tokenizer):
		return bad("the model has no tokenizer: only token ids can be used")
	case errors.Is(err, context.Canceled), errors.Is(err, pumice.ErrClosed):
		return &requestError{Code: http.StatusServiceUnavailable, Type: "unavailable_error", Message: "the server is stopping"}
	}
	return &requestError{Code: http.StatusInternalServerError, Type: "server_error", Message: "the model failed: the server's log says why"}
}

// fail answers a request with an error, which the log gets in full if it is not the client's.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	told := explain(err)
	if r.Context().Err() != nil { // nobody reads it
		return
	}
	if told.Code >= http.StatusInternalServerError && told.Code != http.StatusServiceUnavailable { // while it loads, hosts ask often
		s.log.Error().Err(err).Str("path", r.URL.Path).Msg("request failed")
	}
	if strings.HasPrefix(r.URL.Path, "/v1/messages") {
		reply(w, told.Code, anthropicError(told))
		return
	}
	reply(w, told.Code, map[string]any{"error": told})
}

// broken ends a stream with an error, which send sends.
func (s *Server) broken(r *http.Request, err error, send func(*requestError) error) {
	if r.Context().Err() != nil { // nobody reads it
		return
	}
	s.log.Error().Err(err).Str("path", r.URL.Path).Msg("an answer broke off")
	_ = send(explain(err))
}

// reply writes JSON.
func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the client may be gone
}
