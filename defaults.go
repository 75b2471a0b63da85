package pumice

import (
	"errors"
	"fmt"

	"pumice/checkpoint"
	"pumice/model"
	"pumice/sample"
	"pumice/tokenizer"
)

// samplingDefaults reads the parameters that Model.SamplingDefaults returns. A generation_config.json without
// do_sample does not turn sampling off.
func samplingDefaults(c *checkpoint.Checkpoint) (sample.Params, error) {
	p := sample.Default()
	f, names := c.GenerationConfig(), huggingFaceSampling
	if c.Format() == checkpoint.GGUF {
		f, names = c.Metadata(), ggufSampling
	}
	if f == nil {
		return p, nil
	}
	p.Temperature = float32(f.FloatOr(names.temperature, float64(p.Temperature)))
	p.TopK = f.IntOr(names.topK, p.TopK)
	p.TopP = float32(f.FloatOr(names.topP, float64(p.TopP)))
	p.MinP = float32(f.FloatOr(names.minP, float64(p.MinP)))
	p.RepeatPenalty = float32(f.FloatOr(names.repeatPenalty, float64(p.RepeatPenalty)))
	if names.repeatLastN != "" {
		// In llama.cpp -1 stands for the whole context.
		p.RepeatLastN = max(0, f.IntOr(names.repeatLastN, p.RepeatLastN))
	}
	if names.doSample != "" && !f.BoolOr(names.doSample, true) {
		p.Temperature = 0
	}
	if err := f.Err(); err != nil {
		return p, err
	}
	var wrong *sample.ParamError
	if errors.As(p.Validate(), &wrong) { // the value is the file's, so the error is not the caller's *sample.ParamError
		f.Fail(names.of(wrong), "%g: want %s", float32(wrong.Value), wrong.Want)
	}
	return p, f.Err()
}

// samplingKeys are a file format's keys of the sampling parameters, "" if it has no such key.
type samplingKeys struct {
	temperature, topK, topP, minP, repeatPenalty, repeatLastN, doSample string
}

// of returns the key of a parameter.
func (k samplingKeys) of(e *sample.ParamError) string {
	switch e.Field {
	case "Temperature":
		return k.temperature
	case "TopK":
		return k.topK
	case "TopP":
		return k.topP
	case "MinP":
		return k.minP
	case "RepeatPenalty":
		return k.repeatPenalty
	}
	return k.repeatLastN
}

var (
	huggingFaceSampling = samplingKeys{
		temperature: "temperature", topK: "top_k", topP: "top_p", minP: "min_p", repeatPenalty: "repetition_penalty",
		doSample: "do_sample",
	}
	// llama.cpp, gguf-py constants.py, class Keys.General
	ggufSampling = samplingKeys{
		temperature: "general.sampling.temp", topK: "general.sampling.top_k", topP: "general.sampling.top_p",
		minP: "general.sampling.min_p", repeatPenalty: "general.sampling.penalty_repeat", repeatLastN: "general.sampling.penalty_last_n",
	}
)

// maxEndTokens bounds the number of end tokens: real models name three or four, and each generated token is compared
// with all.
const maxEndTokens = 1024

// endTokens lists the tokens that end a text: those of generation_config.json if it names any, else those of
// config.json or the GGUF file, to which a GGUF file may add an end of turn and an end of message, else the
// tokenizer's.
func endTokens(c *checkpoint.Checkpoint, config *model.Config, tok *tokenizer.Tokenizer) ([]int, error) {
	var ids []int
	seen := map[int]bool{}
	add := func(id int) {
		if id >= 0 && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	if gen := c.GenerationConfig(); gen != nil {
		for _, id := range gen.Ints("eos_token_id") {
			add(id)
		}
		if err := gen.Err(); err != nil {
			return nil, err
		}
	}
	if len(ids) == 0 {
		for _, id := range config.EOSTokenIDs {
			add(id)
		}
	}
	if meta := c.Metadata(); meta != nil {
		for _, key := range []string{"eos_token_id", "eot_token_id", "eom_token_id"} {
			add(meta.IntOr("tokenizer.ggml."+key, -1))
		}
		if err := meta.Err(); err != nil {
			return nil, err
		}
	}
	if len(ids) == 0 && tok != nil {
		if id, ok := tok.EOS(); ok {
			add(id)
		}
	}
	if len(ids) > maxEndTokens {
		return nil, fmt.Errorf("pumice: %s: %d end tokens, at most %d are supported", c.Path(), len(ids), maxEndTokens)
	}
	return ids, nil
}
